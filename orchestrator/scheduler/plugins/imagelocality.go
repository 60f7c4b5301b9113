package plugins

import "github.com/pintle/pintle/orchestrator/scheduler/framework"

// ImageLocality prefers nodes that have the pod's images already. An image counts by its size, and by the share of nodes
// that have it, so that not all pods go where an image happens to be.
type ImageLocality struct{}

// Name implements framework.Plugin.
func (ImageLocality) Name() string { return "ImageLocality" }

// Less than the first isn't worth moving for; more than the second, for each container, isn't worth more. Bytes.
const (
	leastImage = 23 << 20
	mostImage  = 1000 << 20
)

// Prepare implements framework.Plugin.
func (ImageLocality) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	type kept struct {
		sizes map[int]int64
		share float64
	}
	var images []kept
	add := func(name string) {
		if sizes := s.ImageSizes(name); sizes != nil {
			images = append(images, kept{sizes, float64(len(sizes)) / float64(s.Len())})
		}
	}
	for i := range pod.Spec.InitContainers {
		add(pod.Spec.InitContainers[i].Image)
	}
	for i := range pod.Spec.Containers {
		add(pod.Spec.Containers[i].Image)
	}
	if len(images) == 0 {
		return framework.Prepared{}
	}
	containers := int64(len(pod.Spec.InitContainers) + len(pod.Spec.Containers))
	return framework.Prepared{Weight: 1, Score: func(n *framework.Node) int64 {
		var sum int64
		for _, image := range images {
			sum += int64(float64(image.sizes[n.Row]) * image.share)
		}
		most := containers * mostImage
		return framework.MaxScore * (min(most, max(leastImage, sum)) - leastImage) / (most - leastImage)
	}}
}
