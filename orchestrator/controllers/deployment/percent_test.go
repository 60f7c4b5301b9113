package deployment

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// maxSurge rounds up and maxUnavailable down; when both come to nothing, one pod may be missing.
func TestPercentagesRoundAsDocumented(t *testing.T) {
	for name, c := range map[string]struct {
		replicas           int32
		surge, unavailable string
		wantSurge, wantUn  int32
	}{
		"the defaults, of 4":             {4, "", "", 1, 1},
		"the defaults, of 10":            {10, "", "", 3, 2},
		"the defaults, of 1":             {1, "", "", 1, 0},
		"the defaults, of none":          {0, "", "", 0, 1},
		"a third of 10":                  {10, "33%", "33%", 4, 3},
		"numbers":                        {10, "3", "2", 3, 2},
		"nothing and little":             {3, "0", "10%", 0, 1},
		"nothing and nothing in percent": {3, "0%", "0%", 0, 1},
		"all of them":                    {7, "100%", "100%", 7, 7},
		"as many as can be named":        {1<<31 - 1, "25%", "25%", 0, 536870911},
		"a surge beyond all bounds":      {3, "2147483647", "0", 2147483644, 0},
		"a surge of more than all":       {2, "150%", "0", 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := aDeployment(c.replicas, "v1")
			if c.surge != "" {
				d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: ptr.To(intstr.Parse(c.surge)), MaxUnavailable: ptr.To(intstr.Parse(c.unavailable))}
			}
			surge, unavailable := fenceposts(d)
			if surge != c.wantSurge || unavailable != c.wantUn {
				t.Errorf("surge %d, unavailable %d, want %d and %d", surge, unavailable, c.wantSurge, c.wantUn)
			}
			if most := maxUnavailable(d); most > c.replicas {
				t.Errorf("%d of %d may be unavailable", most, c.replicas)
			}
		})
	}
}

func TestHistoryIsWhatKubectlReads(t *testing.T) {
	const cause = "kubernetes.io/change-cause"
	d := aDeployment(1, "v1", func(d *appsv1.Deployment) {
		d.Annotations = map[string]string{cause: "first", annotationLastApplied: "{}", annotationRevision: "9", "mine": "too"}
	})
	rs := newSet(d, 3)
	if a := rs.Annotations; a[cause] != "first" || a["mine"] != "too" || a[annotationRevision] != "3" || a[annotationLastApplied] != "" {
		t.Errorf("a new set has %v", a)
	}
	// Undone: an old set becomes the newest, and remembers which revisions it was.
	again, bumped := refreshed(d, rs, 5)
	if a := again.Annotations; !bumped || a[annotationRevision] != "5" || a[annotationRevisionHistory] != "3" {
		t.Errorf("after the first undo: %v", a)
	}
	again, _ = refreshed(d, again, 8)
	if a := again.Annotations; a[annotationRevision] != "8" || a[annotationRevisionHistory] != "3,5" {
		t.Errorf("after the second undo: %v", a)
	}
	if same, bumped := refreshed(d, again, 8); bumped || same.Annotations[annotationRevisionHistory] != "3,5" {
		t.Errorf("without an undo: %v", same.Annotations)
	}
	// A name that is taken makes another one of the same template.
	d.Status.CollisionCount = ptr.To[int32](1)
	if other := newSet(d, 3); other.Name == rs.Name || !sameTemplate(&other.Spec.Template, &rs.Spec.Template) {
		t.Errorf("%s and %s", other.Name, rs.Name)
	}
}
