package csi

import (
	"context"
	"fmt"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// How long calls to drivers may take: what a person or a program waits for, and what moves data.
const (
	shortCall = 10 * time.Second
	longCall  = 2 * time.Minute
)

// driver is one that is registered. It is not changed after connect.
type driver struct {
	name     string
	endpoint string // as it registered itself: it says which paths the driver sees
	conn     *grpc.ClientConn

	nodeID      string
	limit       int64 // volumes on the node; 0: any number
	topology    map[string]string
	stages      bool
	expands     bool // on the node
	measures    bool
	groups      bool // it mounts for a group itself
	single      bool // it tells writers on one node apart
	controller  bool
	constrained bool // its volumes are in a part of the topology
	controls    map[csipb.ControllerServiceCapability_RPC_Type]bool
}

func (d *driver) node() csipb.NodeClient { return csipb.NewNodeClient(d.conn) }

func (d *driver) control() csipb.ControllerClient { return csipb.NewControllerClient(d.conn) }

// connect asks the driver behind a socket what it is and what it can.
func connect(ctx context.Context, name, endpoint, socket string) (*driver, error) {
	conn, err := dial(socket)
	if err != nil {
		return nil, fmt.Errorf("connect to driver %s: %w", name, err)
	}
	d := &driver{name: name, endpoint: endpoint, conn: conn, controls: map[csipb.ControllerServiceCapability_RPC_Type]bool{}}
	if err := d.ask(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("driver %s: %w", name, err)
	}
	return d, nil
}

func (d *driver) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	info, err := d.node().NodeGetInfo(ctx, &csipb.NodeGetInfoRequest{})
	if err != nil {
		return fmt.Errorf("NodeGetInfo: %w", err)
	}
	if info.GetNodeId() == "" {
		return fmt.Errorf("NodeGetInfo: the driver gives no node ID")
	}
	d.nodeID, d.limit, d.topology = info.GetNodeId(), info.GetMaxVolumesPerNode(), info.GetAccessibleTopology().GetSegments()
	caps, err := d.node().NodeGetCapabilities(ctx, &csipb.NodeGetCapabilitiesRequest{})
	if err != nil {
		return fmt.Errorf("NodeGetCapabilities: %w", err)
	}
	for _, c := range caps.GetCapabilities() {
		switch c.GetRpc().GetType() {
		case csipb.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME:
			d.stages = true
		case csipb.NodeServiceCapability_RPC_EXPAND_VOLUME:
			d.expands = true
		case csipb.NodeServiceCapability_RPC_GET_VOLUME_STATS:
			d.measures = true
		case csipb.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP:
			d.groups = true
		case csipb.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER:
			d.single = true
		}
	}
	plugin, err := csipb.NewIdentityClient(d.conn).GetPluginCapabilities(ctx, &csipb.GetPluginCapabilitiesRequest{})
	if err != nil {
		return fmt.Errorf("GetPluginCapabilities: %w", err)
	}
	for _, c := range plugin.GetCapabilities() {
		switch c.GetService().GetType() {
		case csipb.PluginCapability_Service_CONTROLLER_SERVICE:
			d.controller = true
		case csipb.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS:
			d.constrained = true
		}
	}
	if !d.controller {
		return nil
	}
	all, err := d.control().ControllerGetCapabilities(ctx, &csipb.ControllerGetCapabilitiesRequest{})
	if err != nil {
		// Node plugins that are one program with the controller often say so of both, and serve one of them.
		d.controller = false
		return nil
	}
	for _, c := range all.GetCapabilities() {
		d.controls[c.GetRpc().GetType()] = true
	}
	return nil
}

// can reports whether the driver's controller makes that call.
func (d *driver) can(c csipb.ControllerServiceCapability_RPC_Type) bool {
	return d.controller && d.controls[c]
}
