package framework

// Plugin takes part in decisions. Names are kube-scheduler's.
type Plugin interface {
	Name() string
	// Prepare looks at the pod and the cluster once. It must not change either.
	Prepare(pod *Pod, s *State) Prepared
}

// Prepared is what a plugin says of one pod. Nil functions take no part.
type Prepared struct {
	// Filter returns "" when the pod may run on the node, else the reasons why not, worded to follow
	// a count of nodes ("Insufficient cpu").
	Filter func(*Node) []string
	// Lasting says that no pod's end changes what Filter says, so that preemption is of no help.
	Lasting bool
	// Score rates a node that passed every filter; higher is better.
	Score func(*Node) int64
	// Normalize brings the scores of the feasible nodes into 0..MaxScore, in place. Nil: they are already.
	Normalize func(scores []int64)
	// Weight multiplies the normalized score.
	Weight int64
}

// MaxScore is the best normalized score.
const MaxScore = 100

// NormalizeTo scales scores linearly so that the largest becomes MaxScore; with reverse the
// largest becomes 0.
func NormalizeTo(scores []int64, reverse bool) {
	var most int64
	for _, s := range scores {
		most = max(most, s)
	}
	for i, s := range scores {
		if most > 0 {
			s = s * MaxScore / most
		}
		if reverse {
			s = MaxScore - s
		}
		scores[i] = s
	}
}

// NormalizeRange scales scores, which may be negative, so that the smallest becomes 0 and the
// largest MaxScore; with reverse the other way round. Equal scores all become 0, or MaxScore with reverse.
func NormalizeRange(scores []int64, reverse bool) {
	if len(scores) == 0 {
		return
	}
	least, most := scores[0], scores[0]
	for _, s := range scores {
		least, most = min(least, s), max(most, s)
	}
	for i, s := range scores {
		switch {
		case most == least && reverse:
			scores[i] = MaxScore
		case most == least:
			scores[i] = 0
		case reverse:
			scores[i] = MaxScore * (most - s) / (most - least)
		default:
			scores[i] = MaxScore * (s - least) / (most - least)
		}
	}
}
