package topology

import "fmt"

// MatrixOfScores makes a Matrix of the scores of all pairs i < j, row by row, as NodeGPUs.Links has them.
func MatrixOfScores(n int, scores []int) (*Matrix, error) {
	if n < 0 || n > MaxGPUs {
		return nil, fmt.Errorf("a matrix of %d GPUs: it can hold 0 to %d", n, MaxGPUs)
	}
	if len(scores) != n*(n-1)/2 {
		return nil, fmt.Errorf("a matrix of %d GPUs has %d pairs, not %d", n, n*(n-1)/2, len(scores))
	}
	m := &Matrix{n: n}
	k := 0
	for i := range n {
		for j := i + 1; j < n; j++ {
			s := int64(max(0, min(scores[k], maxScore)))
			m.score[i][j], m.score[j][i] = s, s
			k++
		}
	}
	return m, nil
}

// maxScore is the greatest that Link.Score gives, for which the search's arithmetic is made.
const maxScore = 10*int(SameBoard) + 100*64

// Room measures what can still be made of a GPU beside the instances that are there: each profile counts for every place
// that is left to it, in slices squared. It is for comparing.
func (l Layout) Room(there []Instance) int { return l.options(there) }
