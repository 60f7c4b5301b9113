package gpu_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/gputest"
)

func TestLabelsAreGPUFeatureDiscoverys(t *testing.T) {
	machine := gputest.DGXH100()
	m := start(t, machine, nil)
	divide(t, machine, 0, 19, 0, 1)
	inv := until(t, m, "instances", func(inv *gpu.Inventory) bool { return len(inv.Devices[0].MIG.Instances) == 2 })
	labels := inv.Labels()
	for key, want := range map[string]string{
		"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.memory": "81559",
		"nvidia.com/gpu.replicas": "1", "nvidia.com/gpu.family": "hopper", "nvidia.com/gpu.mode": "compute", "nvidia.com/gpu.sharing-strategy": "none",
		"nvidia.com/gpu.compute.major": "9", "nvidia.com/gpu.compute.minor": "0",
		"nvidia.com/cuda.driver.major": "580", "nvidia.com/cuda.driver.minor": "159", "nvidia.com/cuda.driver.rev": "04",
		"nvidia.com/cuda.driver-version.full": "580.159.04", "nvidia.com/cuda.runtime-version.full": "13.0",
		"nvidia.com/mig.capable": "true", "nvidia.com/mig.strategy": "mixed", "nvidia.com/mps.capable": "false",
		"nvidia.com/mig-1g.10gb.count": "2", "nvidia.com/mig-1g.10gb.slices.gi": "1", "nvidia.com/mig-1g.10gb.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
	} {
		if labels[key] != want {
			t.Errorf("%s is %q, not %q", key, labels[key], want)
		}
	}
	if q := inv.Resources(); q[gpu.ResourceGPU].Capacity != 7 || q["nvidia.com/mig-1g.10gb"].Capacity != 2 {
		t.Errorf("the node has %+v", q)
	}
	shared := start(t, gputest.TwoL4(), func(c *gpu.Config) { c.Sharing = gpu.Sharing{Mode: gpu.TimeSlices, Replicas: 4} }).Inventory().Labels()
	if shared["nvidia.com/gpu.product"] != "NVIDIA-L4-SHARED" || shared["nvidia.com/gpu.replicas"] != "4" || shared["nvidia.com/gpu.sharing-strategy"] != "time-slicing" || shared["nvidia.com/gpu.family"] != "ada-lovelace" {
		t.Errorf("shared GPUs: %v", shared)
	}
}

func TestDevicesAreNamedAndDescribedAsNVIDIAsDRADriverDoes(t *testing.T) {
	machine := gputest.DGXH100()
	m := start(t, machine, nil)
	divide(t, machine, 0, 9, 4)
	devices := until(t, m, "an instance", func(inv *gpu.Inventory) bool { return len(inv.Devices[0].MIG.Instances) == 1 }).DRADevices()
	if len(devices) != 8 || devices[0].Name != "gpu-0-mig-3g40gb-9-4" || devices[1].Name != "gpu-1" {
		t.Fatalf("%d devices, %s and %s", len(devices), devices[0].Name, devices[1].Name)
	}
	mig, whole := devices[0], devices[1]
	for key, want := range map[string]gpu.Attribute{
		"type": {String: "mig"}, "profile": {String: "3g.40gb"}, "parentUUID": {String: machine.UUID(0)}, "architecture": {String: "Hopper"},
	} {
		if mig.Attributes[key] != want {
			t.Errorf("%s of the instance is %+v", key, mig.Attributes[key])
		}
	}
	if mig.Capacity["memorySlice4"] != 1 || mig.Capacity["memorySlice7"] != 1 || mig.Capacity["memorySlice3"] != 0 || mig.Capacity["multiprocessors"] != 60 {
		t.Errorf("capacity %v", mig.Capacity)
	}
	for key, want := range map[string]gpu.Attribute{
		"type": {String: "gpu"}, "uuid": {String: machine.UUID(1)}, "productName": {String: "NVIDIA H100 80GB HBM3"}, "brand": {String: "Nvidia"},
		"cudaComputeCapability": {Version: "9.0.0"}, "driverVersion": {Version: "580.159.4"}, "cudaDriverVersion": {Version: "13.0.0"},
		"resource.kubernetes.io/pciBusID": {String: "0000:43:00.0"}, "resource.kubernetes.io/pcieRoot": {String: "pci0000:40"},
	} {
		if whole.Attributes[key] != want {
			t.Errorf("%s of the GPU is %+v", key, whole.Attributes[key])
		}
	}
	if whole.Capacity["memory"] != 81559<<20 || !whole.Healthy {
		t.Errorf("%+v", whole)
	}
}

// fakeRoot is a host's file system as far as a driver's files are concerned.
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		at := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "→"); ok {
			err = os.Symlink(target, at)
		} else {
			err = os.WriteFile(at, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func driverFiles() map[string]string {
	lib := "/usr/lib/x86_64-linux-gnu/"
	return map[string]string{
		"/dev/nvidiactl": "", "/dev/nvidia-uvm": "", "/dev/nvidia-uvm-tools": "",
		lib + "libcuda.so.580.159.04": "", lib + "libcuda.so.1": "→libcuda.so.580.159.04", lib + "libcuda.so": "→libcuda.so.1",
		lib + "libnvidia-ml.so.580.159.04": "", lib + "libnvidia-ml.so.1": "→libnvidia-ml.so.580.159.04",
		lib + "libnvidia-gpucomp.so.580.159.04": "",
		lib + "libcuda.so.470.1":                "", lib + "libGLX_nvidia.so.580.159.04": "", lib + "libc.so.6": "",
		"/usr/bin/nvidia-smi": "",
		"/proc/driver/nvidia/capabilities/gpu0/mig/gi1/access":     "DeviceFileMinor: 12\nDeviceFileMode: 256\n",
		"/proc/driver/nvidia/capabilities/gpu0/mig/gi1/ci0/access": "DeviceFileMinor: 13\nDeviceFileMode: 256\n",
	}
}

func TestTheCDISpecificationHasEachDevicesOwnFiles(t *testing.T) {
	machine := gputest.DGXH100()
	m := start(t, machine, nil)
	made := divide(t, machine, 0, 19, 0)
	inv := until(t, m, "an instance", func(inv *gpu.Inventory) bool { return len(inv.Devices[0].MIG.Instances) == 1 })
	spec, err := inv.CDI(fakeRoot(t, driverFiles()))
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string][]string{}
	for _, d := range spec.Devices {
		for _, n := range d.Edits.DeviceNodes {
			nodes[d.Name] = append(nodes[d.Name], n.Path)
		}
	}
	for name, want := range map[string][]string{
		machine.UUID(1): {"/dev/nvidia1"}, "7": {"/dev/nvidia7"},
		made[0]: {"/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-caps/nvidia-cap13"},
		"0:0":   {"/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-caps/nvidia-cap13"},
	} {
		if !slices.Equal(nodes[name], want) {
			t.Errorf("%s has %v, not %v", name, nodes[name], want)
		}
	}
	if nodes[machine.UUID(0)] != nil || nodes["0"] != nil {
		t.Error("a divided GPU is a device by itself")
	}
	if len(nodes["all"]) != 10 {
		t.Errorf("all has %v", nodes["all"])
	}
	var mounts []string
	for _, mount := range spec.Edits.Mounts {
		mounts = append(mounts, mount.ContainerPath+" ← "+mount.HostPath)
	}
	lib := "/usr/lib/x86_64-linux-gnu/"
	want := []string{
		"/usr/bin/nvidia-smi ← /usr/bin/nvidia-smi",
		lib + "libcuda.so.1 ← " + lib + "libcuda.so.580.159.04",
		lib + "libnvidia-gpucomp.so.580.159.04 ← " + lib + "libnvidia-gpucomp.so.580.159.04",
		lib + "libnvidia-ml.so.1 ← " + lib + "libnvidia-ml.so.580.159.04",
		"/usr/lib64/libcuda.so.1 ← " + lib + "libcuda.so.580.159.04",
		"/usr/lib64/libnvidia-gpucomp.so.580.159.04 ← " + lib + "libnvidia-gpucomp.so.580.159.04",
		"/usr/lib64/libnvidia-ml.so.1 ← " + lib + "libnvidia-ml.so.580.159.04",
	}
	slices.Sort(mounts)
	slices.Sort(want)
	if !slices.Equal(mounts, want) {
		t.Errorf("mounts\n%s\nnot\n%s", strings.Join(mounts, "\n"), strings.Join(want, "\n"))
	}
	path, err := spec.Write(filepath.Join(t.TempDir(), "cdi"), "test")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(raw, &back); err != nil || back["cdiVersion"] != "0.5.0" || back["kind"] != "nvidia.com/gpu" {
		t.Errorf("%v: %s", err, raw)
	}
}

func TestAMachineWithoutDeviceFilesHasNoSpecification(t *testing.T) {
	m := start(t, gputest.TwoL4(), nil)
	if _, err := m.Inventory().CDI(t.TempDir()); err == nil || !strings.Contains(err.Error(), "nvidia-modprobe") {
		t.Errorf("%v", err)
	}
	files := driverFiles()
	delete(files, "/usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04")
	if _, err := m.Inventory().CDI(fakeRoot(t, files)); err == nil || !strings.Contains(err.Error(), "libcuda.so.580.159.04") {
		t.Errorf("without a library of the driver's version: %v", err)
	}
}

func TestMetricsAreTheDCGMExportersAndThePods(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	machine := gputest.TwoL4()
	m, err := gpu.New(gpu.Config{Driver: machine, Metrics: registry, Host: "node-1", Sharing: gpu.Sharing{Mode: gpu.TimeSlices, Replicas: 2}})
	if err != nil {
		t.Fatal(err)
	}
	gather := func() map[string][]map[string]string {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string][]map[string]string{}
		for _, f := range families {
			for _, metric := range f.Metric {
				labels := map[string]string{}
				for _, l := range metric.Label {
					labels[l.GetName()] = l.GetValue()
				}
				out[f.GetName()] = append(out[f.GetName()], labels)
			}
		}
		return out
	}
	stop := run(t, m)
	for _, pod := range []string{"a", "b"} {
		if err := m.Claim(gpu.Claim{Pod: pod, Name: "train/" + pod, Grants: grant(machine.UUID(0))}); err != nil {
			t.Fatal(err)
		}
	}
	got := gather()
	for _, name := range []string{"DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_XID_ERRORS", "DCGM_FI_DEV_SM_CLOCK", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"} {
		if len(got[name]) != 3 { // two pods on the first, none on the second
			t.Errorf("%s has %d series", name, len(got[name]))
		}
	}
	first := got["DCGM_FI_DEV_GPU_UTIL"][0]
	for key, want := range map[string]string{"gpu": "0", "UUID": machine.UUID(0), "device": "nvidia0", "modelName": "NVIDIA L4", "Hostname": "node-1", "namespace": "train", "pod": "a", "pci_bus_id": "0000:00:03.0"} {
		if first[key] != want {
			t.Errorf("%s is %q, not %q", key, first[key], want)
		}
	}
	stop()
	if left := gather(); len(left) != 0 {
		t.Errorf("after Run, %d metrics are left", len(left))
	}
}
