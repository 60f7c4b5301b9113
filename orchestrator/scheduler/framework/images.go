package framework

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// image is where an image is already.
type image struct{ sizes map[int]int64 } // bytes, by Node.Row

// ImageSizes are the bytes of an image on the nodes that have it, by Node.Row; nil if none has. The map is the State's own.
func (s *State) ImageSizes(name string) map[int]int64 {
	if len(s.images) == 0 {
		return nil
	}
	if i := s.images[tagged(name)]; i != nil {
		return i.sizes
	}
	return nil
}

// tagged is the image's name as nodes report it: without tag or digest it means the latest.
func tagged(name string) string {
	if strings.LastIndexByte(name, ':') <= strings.LastIndexByte(name, '/') {
		return name + ":latest"
	}
	return name
}

// setImages records which images a node has now, in place of those that it had.
func (s *State) setImages(n *Node, before *corev1.Node) {
	var had, has []corev1.ContainerImage
	if before != nil {
		had = before.Status.Images
	}
	if n.Node != nil {
		has = n.Node.Status.Images
	}
	if slices.EqualFunc(had, has, func(a, b corev1.ContainerImage) bool {
		return a.SizeBytes == b.SizeBytes && slices.Equal(a.Names, b.Names)
	}) {
		return
	}
	for i := range had {
		for _, name := range had[i].Names {
			if at := s.images[tagged(name)]; at != nil {
				if delete(at.sizes, n.Row); len(at.sizes) == 0 {
					delete(s.images, tagged(name))
				}
			}
		}
	}
	for i := range has {
		for _, name := range has[i].Names {
			at := s.images[tagged(name)]
			if at == nil {
				at = &image{sizes: map[int]int64{}}
				s.images[tagged(name)] = at
			}
			at.sizes[n.Row] = has[i].SizeBytes
		}
	}
}
