package localpath

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func class() *storagev1.StorageClass {
	mode := storagev1.VolumeBindingWaitForFirstConsumer
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local-path"}, Provisioner: Name, VolumeBindingMode: &mode}
}

func claim(name, size string) *corev1.PersistentVolumeClaim {
	c := "local-path"
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Annotations: map[string]string{AnnotationSelectedNode: "n1"}},
		Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &c, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}}},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}}
}

// bind is what the binder does.
func bind(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
	c.Spec.VolumeName, c.Status.Phase = v.Name, corev1.ClaimBound
	c.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: v.Spec.Capacity[corev1.ResourceStorage]}
	v.Status.Phase = corev1.VolumeBound
}

func TestWhatIsToBeDone(t *testing.T) {
	now := metav1.Now()
	for name, tc := range map[string]struct {
		// change is given a claim "a" without a volume, and its volume, which isn't in the state unless it says so.
		change func(s *State, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume)
		want   string
	}{
		"a new claim": {func(*State, *corev1.PersistentVolumeClaim, *corev1.PersistentVolume) {}, "provision pvc-a"},
		"another node's": {func(_ *State, c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			c.Annotations[AnnotationSelectedNode] = "n2"
		}, ""},
		"another provisioner's": {func(s *State, _ *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			s.Classes["local-path"].Provisioner = "other"
		}, ""},
		"without its class": {func(s *State, _ *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) { clear(s.Classes) }, ""},
		"bound by hand":     {func(_ *State, c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) { c.Spec.VolumeName = "x" }, ""},
		"a claim that goes": {func(_ *State, c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			c.DeletionTimestamp = &now
		}, ""},
		"done, not bound yet": {func(s *State, _ *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
			s.Volumes = []*corev1.PersistentVolume{v}
		}, ""},
		"killed before the volume was written": {func(s *State, _ *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			s.Records = []Record{{Name: "pvc-a", State: Creating}}
		}, "provision pvc-a"},
		"killed after it": {func(s *State, _ *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
			s.Volumes, s.Records = []*corev1.PersistentVolume{v}, []Record{{Name: "pvc-a", State: Creating}}
		}, "confirm pvc-a"},
		"nobody wants it any more": {func(s *State, c *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			s.Claims, s.Records = nil, []Record{{Name: "pvc-a", State: Creating}}
		}, "abandon pvc-a"},
		"somebody deleted the volume of a folder": {func(s *State, _ *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			s.Claims, s.Records = nil, []Record{{Name: "pvc-a", State: Ready}}
		}, ""},
		"released": {func(s *State, _ *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
			v.Status.Phase = corev1.VolumeReleased
			s.Claims, s.Volumes, s.Records = nil, []*corev1.PersistentVolume{v}, []Record{{Name: "pvc-a", State: Ready}}
		}, "remove pvc-a"},
		"released, retained": {func(s *State, _ *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
			v.Status.Phase, v.Spec.PersistentVolumeReclaimPolicy = corev1.VolumeReleased, corev1.PersistentVolumeReclaimRetain
			s.Claims, s.Volumes, s.Records = nil, []*corev1.PersistentVolume{v}, []Record{{Name: "pvc-a", State: Ready}}
		}, ""},
		"retained, the volume is deleted": {func(s *State, _ *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
			v.Status.Phase, v.Spec.PersistentVolumeReclaimPolicy, v.DeletionTimestamp = corev1.VolumeReleased, corev1.PersistentVolumeReclaimRetain, &now
			s.Claims, s.Volumes, s.Records = nil, []*corev1.PersistentVolume{v}, []Record{{Name: "pvc-a", State: Ready}}
		}, "keep pvc-a"},
		"the volume is deleted while it is claimed": {func(s *State, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
			bind(c, v)
			v.DeletionTimestamp = &now
			s.Volumes, s.Records = []*corev1.PersistentVolume{v}, []Record{{Name: "pvc-a", State: Ready}}
		}, ""},
		"killed while it was removed": {func(s *State, _ *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
			v.Status.Phase = corev1.VolumeReleased
			s.Claims, s.Volumes, s.Records = nil, []*corev1.PersistentVolume{v}, []Record{{Name: "pvc-a", State: Deleting}}
		}, "remove pvc-a"},
		"killed after the volume went": {func(s *State, _ *corev1.PersistentVolumeClaim, _ *corev1.PersistentVolume) {
			s.Claims, s.Records = nil, []Record{{Name: "pvc-a", State: Deleting}}
		}, "abandon pvc-a"},
		"the claim grows": {func(s *State, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
			bind(c, v)
			c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
			s.Volumes, s.Records = []*corev1.PersistentVolume{v}, []Record{{Name: "pvc-a", State: Ready}}
		}, "expand pvc-a"},
		"killed before the claim was told": {func(s *State, c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
			bind(c, v)
			c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
			v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
			s.Volumes, s.Records = []*corev1.PersistentVolume{v}, []Record{{Name: "pvc-a", State: Ready}}
		}, "expand pvc-a"},
	} {
		t.Run(name, func(t *testing.T) {
			c := claim("a", "1Gi")
			v := Volume(c, class(), "/volumes/pvc-a", "n1", "project")
			s := &State{Node: "n1", Claims: []*corev1.PersistentVolumeClaim{c}, Classes: map[string]*storagev1.StorageClass{"local-path": class()}}
			tc.change(s, c, v)
			var got []string
			for _, a := range Decide(s) {
				if a.Refusal != "" {
					t.Errorf("refused: %s", a.Refusal)
				}
				got = append(got, fmt.Sprintf("%s %s", a.Kind, a.Name))
			}
			if strings.Join(got, ", ") != tc.want {
				t.Fatalf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestClaimsThatNoFolderCanServeAreRefusedWithTheReason(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	for want, change := range map[string]func(*corev1.PersistentVolumeClaim, *storagev1.StorageClass){
		"access mode ReadWriteMany": func(c *corev1.PersistentVolumeClaim, _ *storagev1.StorageClass) {
			c.Spec.AccessModes = append(c.Spec.AccessModes, corev1.ReadWriteMany)
		},
		"volumeMode Block": func(c *corev1.PersistentVolumeClaim, _ *storagev1.StorageClass) { c.Spec.VolumeMode = &block },
		"Selector": func(c *corev1.PersistentVolumeClaim, _ *storagev1.StorageClass) {
			c.Spec.Selector = &metav1.LabelSelector{}
		},
		"dataSource": func(c *corev1.PersistentVolumeClaim, _ *storagev1.StorageClass) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{}
		},
		"mountOptions": func(_ *corev1.PersistentVolumeClaim, s *storagev1.StorageClass) { s.MountOptions = []string{"ro"} },
		"parameters a, b of ": func(_ *corev1.PersistentVolumeClaim, s *storagev1.StorageClass) {
			s.Parameters = map[string]string{"b": "", "a": ""}
		},
	} {
		c, s := claim("a", "1Gi"), class()
		change(c, s)
		if got := refusal(c, s); !strings.Contains(got, want) {
			t.Errorf("%q, want %q in it", got, want)
		}
	}
	c := claim("a", "1Gi")
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	if got := refusal(c, class()); got != "" {
		t.Error(got)
	}
}

func TestAVolumesNodeIsFoundInIt(t *testing.T) {
	v := Volume(claim("a", "1Gi"), class(), "/p", "n1", "project")
	if !Ours(v, "n1") || Ours(v, "n2") {
		t.Fatal("the node isn't the one it was made for")
	}
	if v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete || !slices.Contains(v.Finalizers, Finalizer) {
		t.Fatalf("%+v", v)
	}
	v.Annotations[AnnotationProvisioned] = "other"
	if Ours(v, "n1") {
		t.Fatal("another provisioner's volume")
	}
}
