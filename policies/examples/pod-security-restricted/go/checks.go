package main

import (
	"slices"
	"strings"

	pintle "github.com/pintle/pintle/policies/sdk/go"
)

var (
	profiles = []string{"RuntimeDefault", "Localhost"} // of seccomp and AppArmor
	selinux  = []string{"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
	volumes  = []string{"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
	sysctls  = []string{
		"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies",
		"net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
		"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
	}
)

// found is what breaks the profile.
type found struct {
	text    []string
	subject string // whose fields are being looked at: empty for the pod's own

	// What containers have from their pod.
	windows, nonRoot, seccomp bool
}

func (f *found) add(parts ...string) {
	text := strings.Join(parts, "")
	if f.subject != "" {
		text = f.subject + ": " + text
	}
	f.text = append(f.text, text)
}

func (f *found) pod(pod pintle.Value) {
	spec := pod.Get("spec")
	context := spec.Get("securityContext")
	f.windows = spec.Get("os").Get("name").String() == "windows"
	for _, field := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		if spec.Get(field).True() {
			f.add(field, " must not be true")
		}
	}
	for key, value := range annotations(pod).Members() {
		v := value.String()
		if strings.HasPrefix(key, "container.apparmor.security.beta.kubernetes.io/") && v != "" && v != "runtime/default" && !strings.HasPrefix(v, "localhost/") {
			f.add("annotation ", key, " must be runtime/default or localhost/…")
		}
	}
	f.context(context)
	for sysctl := range context.Get("sysctls").Elements() {
		if name := sysctl.Get("name").String(); !slices.Contains(sysctls, name) {
			f.add("sysctl ", name, " is not a safe one")
		}
	}
	for v := range spec.Get("volumes").Elements() {
		f.volume(v)
	}
	f.nonRoot = context.Get("runAsNonRoot").True()
	f.seccomp = context.Get("seccompProfile").Get("type").Exists()
	for _, field := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for c := range spec.Get(field).Elements() {
			f.container(c)
		}
	}
}

func (f *found) volume(v pintle.Value) {
	f.subject = `volume "` + v.Get("name").String() + `"`
	sources := 0
	for key, value := range v.Members() {
		if key == "name" || value.Kind() == 'n' {
			continue
		}
		sources++
		if !slices.Contains(volumes, key) {
			f.add("type ", key, " is not allowed")
		}
	}
	if sources == 0 {
		f.add("has no type")
	}
	f.subject = ""
}

// context checks what a pod's and a container's securityContext have in common.
func (f *found) context(c pintle.Value) {
	if c.Get("windowsOptions").Get("hostProcess").True() {
		f.add("securityContext.windowsOptions.hostProcess must not be true")
	}
	if c.Get("runAsNonRoot").False() {
		f.add("securityContext.runAsNonRoot must be true")
	}
	if user, ok := c.Get("runAsUser").Int(); ok && user == 0 {
		f.add("securityContext.runAsUser must not be 0")
	}
	if seccomp := c.Get("seccompProfile").Get("type"); !f.windows && seccomp.Exists() && !slices.Contains(profiles, seccomp.String()) {
		f.add("securityContext.seccompProfile.type must be RuntimeDefault or Localhost")
	}
	options := c.Get("seLinuxOptions")
	if !slices.Contains(selinux, options.Get("type").String()) {
		f.add("securityContext.seLinuxOptions.type must be a container's")
	}
	for _, field := range []string{"user", "role"} {
		if options.Get(field).String() != "" {
			f.add("securityContext.seLinuxOptions.", field, " must not be set")
		}
	}
	if apparmor := c.Get("appArmorProfile").Get("type"); apparmor.Exists() && !slices.Contains(profiles, apparmor.String()) {
		f.add("securityContext.appArmorProfile.type must be RuntimeDefault or Localhost")
	}
}

func (f *found) container(c pintle.Value) {
	f.subject = `container "` + c.Get("name").String() + `"`
	context := c.Get("securityContext")
	f.context(context)
	if context.Get("privileged").True() {
		f.add("securityContext.privileged must not be true")
	}
	if !context.Get("runAsNonRoot").Exists() && !f.nonRoot {
		f.add("securityContext.runAsNonRoot must be true")
	}
	if !f.windows {
		if !context.Get("allowPrivilegeEscalation").False() {
			f.add("securityContext.allowPrivilegeEscalation must be false")
		}
		if !context.Get("seccompProfile").Get("type").Exists() && !f.seccomp {
			f.add("securityContext.seccompProfile.type must be RuntimeDefault or Localhost")
		}
		f.capabilities(context.Get("capabilities"))
	}
	if mount := context.Get("procMount").String(); mount != "" && mount != "Default" {
		f.add("securityContext.procMount must be Default")
	}
	for port := range c.Get("ports").Elements() {
		if n, _ := port.Get("hostPort").Int(); n != 0 {
			f.add("ports.hostPort must not be set")
		}
	}
	f.handlers(c, "", "livenessProbe", "readinessProbe", "startupProbe")
	f.handlers(c.Get("lifecycle"), "lifecycle.", "postStart", "preStop")
	f.subject = ""
}

func (f *found) capabilities(c pintle.Value) {
	dropsAll := false
	for capability := range c.Get("drop").Elements() {
		dropsAll = dropsAll || capability.String() == "ALL"
	}
	if !dropsAll {
		f.add("securityContext.capabilities.drop must include ALL")
	}
	for capability := range c.Get("add").Elements() {
		if name := capability.String(); name != "NET_BIND_SERVICE" {
			f.add("securityContext.capabilities.add must not include ", name)
		}
	}
}

// handlers checks that probes and hooks ask the pod itself, and no other host.
func (f *found) handlers(of pintle.Value, prefix string, names ...string) {
	for _, name := range names {
		for _, action := range []string{"httpGet", "tcpSocket"} {
			if of.Get(name).Get(action).Get("host").String() != "" {
				f.add(prefix, name, ".", action, ".host must not be set")
			}
		}
	}
}
