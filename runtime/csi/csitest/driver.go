// Package csitest has a small driver of the Container Storage Interface, for tests: volumes are folders, and what is asked of it is
// written down. It serves on sockets, as drivers do, and registers itself.
package csitest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pintle/pintle/runtime/csi/internal/registration"
)

// Driver is one that can be started. Set its fields before Start; its methods are safe for concurrent use.
type Driver struct {
	Name, NodeID string
	Topology     map[string]string
	Limit        int64 // volumes per node
	// Controller adds the controller service, with all that this driver can.
	Controller bool
	// NoAttach leaves ControllerPublishVolume out of it.
	NoAttach bool
	// Group takes fsGroups itself (VOLUME_MOUNT_GROUP).
	Group bool
	// Bind makes and takes away what is to be seen at a target: a bind mount, say. nil: the target is a folder of its own.
	Bind   func(source, target string) error
	Unbind func(target string) error
	// Data holds the volumes' folders, by ID; "": none are made.
	Data string
	// Dir is the kubelet's folder as this driver sees it, and Socket its socket's path there, Registered is what it tells the
	// kubelet of that; "": Socket.
	Dir, Socket, Registered string

	mu       sync.Mutex
	calls    []string
	requests map[string]any
	fail     map[string]error
	volumes  map[string]int64
	told     []registration.Status
	servers  []*grpc.Server
	wg       sync.WaitGroup

	csipb.UnimplementedIdentityServer
	csipb.UnimplementedControllerServer
	csipb.UnimplementedNodeServer
}

// Start serves until Stop. It may be started again, as a pod that is made anew.
func (d *Driver) Start() error {
	d.mu.Lock()
	if d.requests == nil {
		d.requests, d.fail, d.volumes = map[string]any{}, map[string]error{}, map[string]int64{}
	}
	d.mu.Unlock()
	if d.Socket == "" {
		d.Socket = filepath.Join(d.Dir, "plugins", d.Name, "csi.sock")
	}
	endpoint := d.Registered
	if endpoint == "" {
		endpoint = d.Socket
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(d.intercept))
	csipb.RegisterIdentityServer(s, d)
	csipb.RegisterNodeServer(s, d)
	if d.Controller {
		csipb.RegisterControllerServer(s, d)
	}
	if err := d.serve(s, d.Socket); err != nil {
		return err
	}
	r := registration.NewServer(registration.Info{Type: "CSIPlugin", Name: d.Name, Endpoint: endpoint, Versions: []string{"1.0.0"}}, func(st registration.Status) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.told = append(d.told, st)
	})
	return d.serve(r, filepath.Join(d.Dir, "plugins_registry", d.Name+"-reg.sock"))
}

func (d *Driver) serve(s *grpc.Server, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	_ = os.Remove(path)
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	d.mu.Lock()
	d.servers = append(d.servers, s)
	d.mu.Unlock()
	d.wg.Go(func() { _ = s.Serve(l) })
	return nil
}

// Stop ends what Start began, and removes the sockets.
func (d *Driver) Stop() {
	d.mu.Lock()
	servers := d.servers
	d.servers = nil
	d.mu.Unlock()
	for _, s := range servers {
		s.Stop()
	}
	d.wg.Wait()
}

// Fail makes every call of a method ("NodeStageVolume") fail with err, until err is nil.
func (d *Driver) Fail(method string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail[method] = err
}

// Calls are the calls that change something, in order: "NodeStageVolume vol-1".
func (d *Driver) Calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// Last is the last request of a method, or nil.
func (d *Driver) Last(method string) any {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.requests[method]
}

// Registrations is what the driver was told of its registration: "" for yes, or why not.
func (d *Driver) Registrations() (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.told {
		out = append(out, s.Error)
	}
	return out
}

// Volumes are the volumes that exist, with their sizes in bytes.
func (d *Driver) Volumes() map[string]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]int64{}
	for k, v := range d.volumes {
		out[k] = v
	}
	return out
}

func (d *Driver) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := info.FullMethod[strings.LastIndex(info.FullMethod, "/")+1:]
	d.mu.Lock()
	d.requests[method] = req
	err := d.fail[method]
	id, ok := "", false
	switch r := req.(type) {
	case interface{ GetVolumeId() string }:
		id, ok = r.GetVolumeId(), method != "NodeGetVolumeStats"
	case *csipb.CreateVolumeRequest:
		id, ok = r.GetName(), true
	}
	if ok {
		d.calls = append(d.calls, method+" "+id)
	}
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// GetPluginInfo implements the interface.
func (d *Driver) GetPluginInfo(context.Context, *csipb.GetPluginInfoRequest) (*csipb.GetPluginInfoResponse, error) {
	return &csipb.GetPluginInfoResponse{Name: d.Name, VendorVersion: "1"}, nil
}

// GetPluginCapabilities implements the interface.
func (d *Driver) GetPluginCapabilities(context.Context, *csipb.GetPluginCapabilitiesRequest) (*csipb.GetPluginCapabilitiesResponse, error) {
	out := &csipb.GetPluginCapabilitiesResponse{}
	add := func(t csipb.PluginCapability_Service_Type) {
		out.Capabilities = append(out.Capabilities, &csipb.PluginCapability{Type: &csipb.PluginCapability_Service_{Service: &csipb.PluginCapability_Service{Type: t}}})
	}
	if d.Controller {
		add(csipb.PluginCapability_Service_CONTROLLER_SERVICE)
	}
	if d.Topology != nil {
		add(csipb.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS)
	}
	return out, nil
}

// ControllerGetCapabilities implements the interface.
func (d *Driver) ControllerGetCapabilities(context.Context, *csipb.ControllerGetCapabilitiesRequest) (*csipb.ControllerGetCapabilitiesResponse, error) {
	out := &csipb.ControllerGetCapabilitiesResponse{}
	types := []csipb.ControllerServiceCapability_RPC_Type{csipb.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, csipb.ControllerServiceCapability_RPC_EXPAND_VOLUME}
	if !d.NoAttach {
		types = append(types, csipb.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME)
	}
	for _, t := range types {
		out.Capabilities = append(out.Capabilities, &csipb.ControllerServiceCapability{Type: &csipb.ControllerServiceCapability_Rpc{Rpc: &csipb.ControllerServiceCapability_RPC{Type: t}}})
	}
	return out, nil
}

// CreateVolume implements the interface.
func (d *Driver) CreateVolume(_ context.Context, r *csipb.CreateVolumeRequest) (*csipb.CreateVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := "vol-" + r.GetName()
	size := r.GetCapacityRange().GetRequiredBytes()
	if old, ok := d.volumes[id]; ok && old != size {
		return nil, status.Error(codes.AlreadyExists, "there is one of another size")
	}
	d.volumes[id] = size
	v := &csipb.Volume{VolumeId: id, CapacityBytes: size, VolumeContext: map[string]string{"made": "yes"}}
	if d.Topology != nil {
		v.AccessibleTopology = []*csipb.Topology{{Segments: d.Topology}}
	}
	return &csipb.CreateVolumeResponse{Volume: v}, nil
}

// DeleteVolume implements the interface.
func (d *Driver) DeleteVolume(_ context.Context, r *csipb.DeleteVolumeRequest) (*csipb.DeleteVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.volumes, r.GetVolumeId())
	return &csipb.DeleteVolumeResponse{}, nil
}

// ControllerPublishVolume implements the interface.
func (d *Driver) ControllerPublishVolume(_ context.Context, r *csipb.ControllerPublishVolumeRequest) (*csipb.ControllerPublishVolumeResponse, error) {
	return &csipb.ControllerPublishVolumeResponse{PublishContext: map[string]string{"device": "/dev/" + r.GetVolumeId()}}, nil
}

// ControllerUnpublishVolume implements the interface.
func (d *Driver) ControllerUnpublishVolume(context.Context, *csipb.ControllerUnpublishVolumeRequest) (*csipb.ControllerUnpublishVolumeResponse, error) {
	return &csipb.ControllerUnpublishVolumeResponse{}, nil
}

// ControllerExpandVolume implements the interface.
func (d *Driver) ControllerExpandVolume(_ context.Context, r *csipb.ControllerExpandVolumeRequest) (*csipb.ControllerExpandVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.volumes[r.GetVolumeId()] = r.GetCapacityRange().GetRequiredBytes()
	return &csipb.ControllerExpandVolumeResponse{CapacityBytes: r.GetCapacityRange().GetRequiredBytes(), NodeExpansionRequired: true}, nil
}

// NodeGetInfo implements the interface.
func (d *Driver) NodeGetInfo(context.Context, *csipb.NodeGetInfoRequest) (*csipb.NodeGetInfoResponse, error) {
	out := &csipb.NodeGetInfoResponse{NodeId: d.NodeID, MaxVolumesPerNode: d.Limit}
	if d.Topology != nil {
		out.AccessibleTopology = &csipb.Topology{Segments: d.Topology}
	}
	return out, nil
}

// NodeGetCapabilities implements the interface.
func (d *Driver) NodeGetCapabilities(context.Context, *csipb.NodeGetCapabilitiesRequest) (*csipb.NodeGetCapabilitiesResponse, error) {
	out := &csipb.NodeGetCapabilitiesResponse{}
	types := []csipb.NodeServiceCapability_RPC_Type{csipb.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, csipb.NodeServiceCapability_RPC_EXPAND_VOLUME, csipb.NodeServiceCapability_RPC_GET_VOLUME_STATS}
	if d.Group {
		types = append(types, csipb.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP)
	}
	for _, t := range types {
		out.Capabilities = append(out.Capabilities, &csipb.NodeServiceCapability{Type: &csipb.NodeServiceCapability_Rpc{Rpc: &csipb.NodeServiceCapability_RPC{Type: t}}})
	}
	return out, nil
}

// NodeStageVolume implements the interface: the caller has made the folder.
func (d *Driver) NodeStageVolume(_ context.Context, r *csipb.NodeStageVolumeRequest) (*csipb.NodeStageVolumeResponse, error) {
	if _, err := os.Stat(d.here(r.GetStagingTargetPath())); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csipb.NodeStageVolumeResponse{}, nil
}

// NodeUnstageVolume implements the interface.
func (d *Driver) NodeUnstageVolume(context.Context, *csipb.NodeUnstageVolumeRequest) (*csipb.NodeUnstageVolumeResponse, error) {
	return &csipb.NodeUnstageVolumeResponse{}, nil
}

// NodePublishVolume implements the interface: the caller has made the folder above the target.
func (d *Driver) NodePublishVolume(_ context.Context, r *csipb.NodePublishVolumeRequest) (*csipb.NodePublishVolumeResponse, error) {
	target := d.here(r.GetTargetPath())
	if err := os.Mkdir(target, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if d.Bind != nil {
		source := filepath.Join(d.Data, r.GetVolumeId())
		if err := os.MkdirAll(source, 0o777); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if err := d.Bind(source, target); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return &csipb.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume implements the interface.
func (d *Driver) NodeUnpublishVolume(_ context.Context, r *csipb.NodeUnpublishVolumeRequest) (*csipb.NodeUnpublishVolumeResponse, error) {
	target := d.here(r.GetTargetPath())
	if d.Unbind != nil {
		if err := d.Unbind(target); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csipb.NodeUnpublishVolumeResponse{}, nil
}

// NodeExpandVolume implements the interface.
func (d *Driver) NodeExpandVolume(_ context.Context, r *csipb.NodeExpandVolumeRequest) (*csipb.NodeExpandVolumeResponse, error) {
	return &csipb.NodeExpandVolumeResponse{CapacityBytes: r.GetCapacityRange().GetRequiredBytes()}, nil
}

// NodeGetVolumeStats implements the interface.
func (d *Driver) NodeGetVolumeStats(context.Context, *csipb.NodeGetVolumeStatsRequest) (*csipb.NodeGetVolumeStatsResponse, error) {
	return &csipb.NodeGetVolumeStatsResponse{Usage: []*csipb.VolumeUsage{{Unit: csipb.VolumeUsage_BYTES, Total: 100, Used: 30, Available: 70},
		{Unit: csipb.VolumeUsage_INODES, Total: 10, Used: 3, Available: 7}}}, nil
}

// here is a path as it is told, on this machine: a driver in a pod has the kubelet's folder where the ecosystem expects it.
func (d *Driver) here(path string) string {
	if rest, ok := strings.CutPrefix(path, "/var/lib/kubelet/"); ok {
		return filepath.Join(d.Dir, rest)
	}
	return path
}
