package csi

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
)

// ecosystemDir is the kubelet's folder as manifests name it.
const ecosystemDir = "/var/lib/kubelet"

// paths are the places below Config.Dir.
type paths struct{ root string }

func (p paths) registry() string { return filepath.Join(p.root, "plugins_registry") }

func (p paths) pods() string { return filepath.Join(p.root, "pods") }

// host is where a path that a driver names is on this machine.
func (p paths) host(path string) string {
	if rest, ok := below(path, ecosystemDir); ok {
		return filepath.Join(p.root, rest)
	}
	return path
}

// view is a path of this machine as the driver with that registered socket sees it.
func (p paths) view(path, endpoint string) string {
	if _, ok := below(endpoint, ecosystemDir); !ok {
		return path
	}
	if rest, ok := below(path, p.root); ok {
		return filepath.Join(ecosystemDir, rest)
	}
	return path
}

func below(path, dir string) (rest string, ok bool) {
	clean := filepath.Clean(path)
	if clean == dir {
		return "", true
	}
	return strings.CutPrefix(clean, dir+"/")
}

// staged is the folder of a volume's staging, which all of its pods on the node share.
func (p paths) staged(driver, handle string) string {
	h := sha256.Sum256([]byte(handle))
	return filepath.Join(p.root, "plugins", "kubernetes.io", "csi", driver, hex.EncodeToString(h[:]))
}

// published is the folder of one pod's volume; name is the PersistentVolume's, or, inline, the pod's for it.
func (p paths) published(podUID, name string) string {
	return filepath.Join(p.pods(), podUID, "volumes", "kubernetes.io~csi", name)
}

// AttachmentName is the name of the VolumeAttachment of a volume to a node.
func AttachmentName(driver, handle, node string) string {
	h := sha256.Sum256([]byte(handle + driver + node))
	return fmt.Sprintf("csi-%x", h)
}
