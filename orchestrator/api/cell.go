package api

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// AgoCell is a table cell that says when its text last became true: "2 (5s ago)".
type AgoCell struct {
	Text string
	At   metav1.Time // zero: the text stands alone
}

// RenderCell makes what a Table carries out of one cell of a Row: ages and AgoCells are counted up to
// now, everything else is itself.
func RenderCell(cell any, now time.Time) any {
	switch c := cell.(type) {
	case metav1.Time:
		return age(c, now)
	case *metav1.Time:
		if c == nil {
			return age(metav1.Time{}, now)
		}
		return age(*c, now)
	case AgoCell:
		if c.At.IsZero() {
			return c.Text
		}
		return fmt.Sprintf("%s (%s ago)", c.Text, age(c.At, now))
	}
	return cell
}

func age(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}
