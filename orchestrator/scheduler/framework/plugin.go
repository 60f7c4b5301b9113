package framework

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Plugin takes part in decisions. Names are kube-scheduler's.
type Plugin interface {
	Name() string
	// Prepare looks at the pod and the cluster once. It must not change either.
	Prepare(pod *Pod, s *State) Prepared
}

// Keyer is a Plugin whose answers hang on more of a pod than Pod.Shape: an annotation, say.
type Keyer interface {
	Plugin
	// Key is the same for pods of one shape that Filter and Score treat alike, where Prepared.Local is set.
	Key(pod *Pod) string
}

// Misser is a Plugin that can say by how little a node that it refuses misses a pod's needs.
type Misser interface {
	Plugin
	// Missing names what is short on the node, and how much of it (cpu in thousandths, else units); 0 where nothing is.
	Missing(pod *Pod, n *Node) (name corev1.ResourceName, amount int64)
}

// Hinter is a Plugin that can say whether a change of a node may help a pod that it has refused.
type Hinter interface {
	Plugin
	// Helps says whether the pod may come to fit on the node as it is now, if need be by the end of less important pods.
	Helps(pod *Pod, n *Node) bool
}

// Runner is a Plugin that has work to do beside decisions. Whoever schedules runs it meanwhile.
type Runner interface {
	Plugin
	Run(ctx context.Context) error
}

// Prepared is what a plugin says of one pod. Nil functions take no part.
type Prepared struct {
	// Filter returns nothing when the pod may run on the node, else the reasons why not, worded to follow
	// a count of nodes ("Insufficient cpu").
	Filter func(*Node) []string
	// Refusal, if not "", says why no node will do, whatever it is; Filter says the same of each. A message then has it
	// without a count.
	Refusal string
	// Lasting says that Filter and Score look at the node alone: no pod's end changes what they say, so that
	// preemption is of no help.
	Lasting bool
	// Score rates a node that passed every filter; higher is better.
	Score func(*Node) int64
	// Scale brings the scores of the feasible nodes into 0..MaxScore; Normalize does it in place where no Scale says how.
	Scale     Scale
	Normalize func(scores []int64)
	// Weight multiplies the normalized score.
	Weight int64

	// Local says that Filter and Score depend on the pod's shape (and the plugin's Key, if it is a Keyer) and on the node with its
	// pods and ledgers alone: all of this Prepared, its being empty included, is then shared with other pods of that shape
	// and asked only about nodes that have changed.
	Local bool
	// Key, with Local and Lasting, is the same for pods of whatever shape of which this Prepared says the same. "": none is.
	Key string
	// FilterRows and ScoreRows, if there are any, say the same of many nodes at once, by Node.Row: FilterRows clears what
	// Filter has reasons against and needs to look only at what is set; ScoreRows rates rows[i] in out[i].
	FilterRows func(ok []bool)
	ScoreRows  func(rows []int32, out []int64)
}

// Scale is how a plugin's scores come into 0..MaxScore.
type Scale uint8

// The ways.
const (
	Unscaled   Scale = iota
	ToMost           // the largest becomes MaxScore, 0 stays (NormalizeTo)
	ToMostRev        // the largest becomes 0, 0 becomes MaxScore
	ToRange          // the smallest becomes 0, the largest MaxScore (NormalizeRange)
	ToRangeRev       // the other way round
)

// Of scales one score, given the least and the most of all feasible nodes'.
func (s Scale) Of(score, least, most int64) int64 {
	switch s {
	case ToMost, ToMostRev:
		if most = max(0, most); most > 0 {
			score = score * MaxScore / most
		}
		if s == ToMostRev {
			return MaxScore - score
		}
	case ToRange:
		if most == least {
			return 0
		}
		return MaxScore * (score - least) / (most - least)
	case ToRangeRev:
		if most == least {
			return MaxScore
		}
		return MaxScore * (most - score) / (most - least)
	}
	return score
}

// MaxScore is the best normalized score.
const MaxScore = 100

// NormalizeTo scales scores linearly so that the largest becomes MaxScore; with reverse the
// largest becomes 0.
func NormalizeTo(scores []int64, reverse bool) {
	if reverse {
		ToMostRev.all(scores)
	} else {
		ToMost.all(scores)
	}
}

// NormalizeRange scales scores, which may be negative, so that the smallest becomes 0 and the
// largest MaxScore; with reverse the other way round. Equal scores all become 0, or MaxScore with reverse.
func NormalizeRange(scores []int64, reverse bool) {
	if reverse {
		ToRangeRev.all(scores)
	} else {
		ToRange.all(scores)
	}
}

func (s Scale) all(scores []int64) {
	if len(scores) == 0 {
		return
	}
	least, most := slices.Min(scores), slices.Max(scores)
	for i := range scores {
		scores[i] = s.Of(scores[i], least, most)
	}
}
