package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/gputest"
)

// smiOf writes a program that prints what nvidia-smi would.
func smiOf(t *testing.T, output string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "out.xml"), []byte(output), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nvidia-smi")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n[ \"$1\" = mig ] && { echo No MIG-supported devices found.; exit 0; }\ncat '"+dir+"/out.xml'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// twoL4 is what nvidia-smi -q -x writes of gputest's two L4, without what isn't compared.
func twoL4(machine *gputest.Machine) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" ?><nvidia_smi_log><driver_version>580.159.04</driver_version><cuda_version>13.0</cuda_version><attached_gpus>2</attached_gpus>`)
	for i, bus := range []string{"00000000:00:03.0", "00000000:00:04.0"} {
		b.WriteString(`<gpu id="` + bus + `"><product_name>NVIDIA L4</product_name><product_brand>NVIDIA</product_brand><product_architecture>Ada Lovelace</product_architecture>
<uuid>` + machine.UUID(i) + `</uuid><minor_number>` + string(rune('0'+i)) + `</minor_number><serial>N/A</serial><persistence_mode>Enabled</persistence_mode>
<mig_mode><current_mig>N/A</current_mig></mig_mode><pci><pci_bus_id>` + bus + `</pci_bus_id><pci_device_id>27B810DE</pci_device_id></pci>
<fb_memory_usage><total>23034 MiB</total><reserved>179 MiB</reserved><used>0 MiB</used></fb_memory_usage>
<ecc_mode><current_ecc>Enabled</current_ecc></ecc_mode><temperature><gpu_temp>33 C</gpu_temp></temperature>
<gpu_power_readings><current_power_limit>72.00 W</current_power_limit></gpu_power_readings>
<remapped_rows><remapped_row_unc>0</remapped_row_unc><remapped_row_pending>No</remapped_row_pending><remapped_row_failure>No</remapped_row_failure></remapped_rows><gpu_recovery_action>None</gpu_recovery_action></gpu>`)
	}
	b.WriteString(`</nvidia_smi_log>`)
	return b.String()
}

func check(t *testing.T, machine *gputest.Machine, smi string) (status int, out string) {
	t.Helper()
	var b strings.Builder
	report := filepath.Join(t.TempDir(), "report.json")
	status = run(t.Context(), options{driver: machine, smi: smi, watch: 10 * time.Millisecond, json: report}, &b)
	return status, b.String()
}

func TestWhatAgreesIsRight(t *testing.T) {
	machine := gputest.TwoL4()
	status, out := check(t, machine, smiOf(t, twoL4(machine)))
	if status != statusRight {
		t.Errorf("status %d\n%s", status, out)
	}
	for _, want := range []string{"NVIDIA L4", "PHB", "nvidia.com/gpu.product=NVIDIA-L4", "nvidia.com/gpu: 2, 2 allocatable", "Checked, and right:", "GPU 0 is healthy", "Could not be checked:", "a load: -load is 0"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

func TestEachDifferenceIsWrong(t *testing.T) {
	machine := gputest.TwoL4()
	for _, change := range [][2]string{
		{"580.159.04", "570.1"}, {"13.0<", "12.8<"}, {machine.UUID(1), "GPU-other"}, {"NVIDIA L4<", "NVIDIA T4<"}, {"00000000:00:04.0</pci_bus_id>", "00000000:00:05.0</pci_bus_id>"},
		{"23034 MiB", "24576 MiB"}, {"72.00 W", "75.00 W"}, {"<gpu_temp>33 C", "<gpu_temp>60 C"}, {"<current_ecc>Enabled", "<current_ecc>Disabled"}, {"<used>0 MiB", "<used>4000 MiB"},
		{"<remapped_row_pending>No", "<remapped_row_pending>Yes"}, {"<gpu_recovery_action>None", "<gpu_recovery_action>Reset"}, {"Ada Lovelace", "Hopper"},
	} {
		status, out := check(t, machine, smiOf(t, strings.Replace(twoL4(machine), change[0], change[1], 1)))
		if status != statusWrong || !strings.Contains(out, "DIFFERS") {
			t.Errorf("%q instead of %q: status %d\n%s", change[1], change[0], status, out)
		}
	}
}

func TestAnUnhealthyGPUIsWrong(t *testing.T) {
	machine := gputest.TwoL4()
	machine.XID(1, 119)
	var b strings.Builder
	status := run(t.Context(), options{driver: machine, smi: smiOf(t, twoL4(machine)), watch: 3 * time.Second}, &b)
	if status != statusWrong || !strings.Contains(b.String(), "XID 119") {
		t.Errorf("status %d\n%s", status, b.String())
	}
}

func TestWithoutADriverNothingIsChecked(t *testing.T) {
	machine := gputest.TwoL4()
	machine.Unload("the kernel module isn't loaded")
	status, out := check(t, machine, "")
	if status != statusNoDriver || !strings.Contains(out, "the kernel module isn't loaded") || !strings.Contains(out, "Nothing was checked.") {
		t.Errorf("status %d: %s", status, out)
	}
}

func TestWithoutNvidiaSmiTheComparisonIsSkipped(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	status, out := check(t, gputest.TwoL4(), "")
	if status != statusRight || !strings.Contains(out, "agreement with nvidia-smi: it is not on this machine") {
		t.Errorf("status %d\n%s", status, out)
	}
}

func TestAnNvidiaSmiThatFailsIsWrong(t *testing.T) {
	status, out := check(t, gputest.TwoL4(), filepath.Join(t.TempDir(), "absent"))
	if status != statusWrong || !strings.Contains(out, "nvidia-smi answers") {
		t.Errorf("status %d\n%s", status, out)
	}
}

func TestMIGProfilesAreComparedWithWhatNvidiaSmiLists(t *testing.T) {
	// As nvidia-smi of driver 580 prints them.
	profiles := `+-------------------------------------------------------------------------------+
| GPU   Name               ID    Instances   Memory     P2P    SM    DEC   ENC  |
|   0  MIG 1g.18gb         19     7/7        16.00      No     16     1     0   |
|                                                               1     1     0   |
|   0  MIG 7g.141gb         0     1/1        140.00     No     132    7     0   |
`
	placements := "GPU  0 Profile ID 19 Placements: {0,1,2,3,4,5,6}:1\nGPU  0 Profile ID  0 Placement : {0}:8\n"
	got := parseMIG(profiles, placements)
	want := []smiProfile{
		{id: 19, total: 7, name: "1g.18gb", gib: 16, placements: " 0:1 1:1 2:1 3:1 4:1 5:1 6:1"},
		{id: 0, total: 1, name: "7g.141gb", gib: 140, placements: " 0:8"},
	}
	if !slices.Equal(got, want) {
		t.Fatalf("read %+v", got)
	}
	machine := gputest.OneH200()
	m, err := gpu.New(gpu.Config{Driver: machine})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	<-m.Ready()
	differ := func(theirs []smiProfile) (names []string) {
		for _, f := range compareMIG(m.Inventory(), theirs) {
			if !f.Equal {
				names = append(names, f.What)
			}
		}
		return names
	}
	if got := differ(want); !slices.Equal(got, []string{"GPU 0 number of MIG profiles"}) {
		t.Errorf("two profiles of seven: %v", got)
	}
	want[0].placements, want[1].gib = " 0:1", 139
	if got := differ(want); len(got) != 3 {
		t.Errorf("a placement and a size that differ: %v", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWithoutCUDATheLoadIsSkipped(t *testing.T) {
	if _, err := runLoad(t.Context(), "", 1024, func() {}); !errors.Is(err, errNoCUDA) {
		t.Skip("this machine has CUDA")
	}
	machine := gputest.TwoL4()
	var b strings.Builder
	status := run(t.Context(), options{driver: machine, smi: smiOf(t, twoL4(machine)), load: time.Millisecond, bytes: 1 << 20}, &b)
	if status != statusRight || !strings.Contains(b.String(), "a load on GPU 0: no CUDA driver API") {
		t.Errorf("status %d\n%s", status, b.String())
	}
}

// The kernel that GPUs run and the function that checks it must be one. What the kernel does is read here: it
// is text, and this machine may have no GPU.
func TestTheKernelComputesWhatIsChecked(t *testing.T) {
	for _, target := range loadTargets {
		ptx := loadPTX(target)
		if !strings.Contains(ptx, ".target "+target+"\n") || !strings.Contains(ptx, "mad.lo.u32 %r6, %r6, 1664525, 1013904223;") || strings.Contains(ptx, "%!") {
			t.Errorf("for %s:\n%s", target, ptx)
		}
	}
	once := uint32(7*1664525 + 1013904223)
	if got := spin(7, 2); got != once*1664525+1013904223 {
		t.Errorf("two rounds of 7 are %d", got)
	}
}
