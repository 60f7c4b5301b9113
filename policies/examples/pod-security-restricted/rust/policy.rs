//! Pods, and what makes pods, keep to the restricted profile of the Pod Security Standards. See ../README.md.
#![no_std]

use pintle::json::pod_template;
use pintle::{text, Json, List, Needs, Operation, Request, Response, Settings, Text};

struct Restricted {
    exempt: List<Text>, // namespaces
}

const SECCOMP: &[&str] = &["RuntimeDefault", "Localhost"];
const SELINUX: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
const VOLUMES: &[&str] = &["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

impl pintle::Policy for Restricted {
    fn configure(settings: &Settings, _: &mut Needs) -> Result<Self, Text> {
        let mut exempt = List::new();
        for (key, value) in settings.json.members() {
            if key != "exemptNamespaces" {
                return Err(text(&["settings: unknown field \"", key, "\""]));
            }
            for e in value.elements() {
                exempt.push(e.string().ok_or("settings.exemptNamespaces: want a list of namespaces")?.into());
            }
            if value.kind() != b'[' {
                return Err("settings.exemptNamespaces: want a list of namespaces".into());
            }
        }
        Ok(Restricted { exempt })
    }
}

impl pintle::Admit for Restricted {
    fn admit(&mut self, request: &Request, response: &mut Response) {
        if request.operation != Operation::Create && request.operation != Operation::Update {
            return;
        }
        if !request.subresource.is_empty() && request.subresource != "ephemeralcontainers" {
            return;
        }
        if self.exempt.iter().any(|n| &**n == request.namespace) {
            return;
        }
        let pod = pod_template(request.kind, Json::of(request.object));
        if !pod.get("spec").exists() {
            return;
        }
        let old = pod_template(request.kind, Json::of(request.old_object));
        if old.get("spec").exists() && old.get("spec").raw() == pod.get("spec").raw() && annotations(old).raw() == annotations(pod).raw() {
            return; // what was there before may stay
        }
        let mut found = Found { text: Text::new(), subject: Text::new() };
        check_pod(pod, &mut found);
        if !found.text.is_empty() {
            response.refuse(text(&["not restricted: ", &found.text]));
        }
    }
}

fn annotations<'a>(pod: Json<'a>) -> Json<'a> {
    pod.get("metadata").get("annotations")
}

/// Found is what breaks the profile.
struct Found {
    text: Text,
    subject: Text, // whose fields are being looked at: empty for the pod's own
}

impl Found {
    fn add(&mut self, parts: &[&str]) {
        if !self.text.is_empty() {
            self.text.push("; ");
        }
        if !self.subject.is_empty() {
            self.text.push(&self.subject);
            self.text.push(": ");
        }
        for part in parts {
            self.text.push(part);
        }
    }

    fn subject(&mut self, what: &str, of: Json) {
        let name = of.get("name").string().unwrap_or_default();
        self.subject = text(&[what, " \"", name, "\""]);
    }
}

fn one_of(value: Json, allowed: &[&str]) -> bool {
    let s = value.string().unwrap_or_default();
    allowed.iter().any(|a| *a == s)
}

fn check_pod(pod: Json, found: &mut Found) {
    let spec = pod.get("spec");
    let context = spec.get("securityContext");
    let windows = spec.get("os").get("name").is("windows");
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec.get(field).is_true() {
            found.add(&[field, " must not be true"]);
        }
    }
    for (key, value) in annotations(pod).members() {
        let value = value.string().unwrap_or_default();
        let fine = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") && !fine {
            found.add(&["annotation ", key, " must be runtime/default or localhost/…"]);
        }
    }
    check_context(context, windows, found);
    for sysctl in context.get("sysctls").elements() {
        if !one_of(sysctl.get("name"), SYSCTLS) {
            found.add(&["sysctl ", sysctl.get("name").string().unwrap_or_default(), " is not a safe one"]);
        }
    }
    for volume in spec.get("volumes").elements() {
        check_volume(volume, found);
    }
    let inherited = Inherited {
        windows,
        non_root: context.get("runAsNonRoot").is_true(),
        seccomp: context.get("seccompProfile").get("type").exists(),
    };
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.get(list).elements() {
            check_container(container, &inherited, found);
        }
    }
}

fn check_volume(volume: Json, found: &mut Found) {
    found.subject("volume", volume);
    let mut sources = 0;
    for (key, value) in volume.members() {
        if key == "name" || value.kind() == b'n' {
            continue;
        }
        sources += 1;
        if !VOLUMES.contains(&key) {
            found.add(&["type ", key, " is not allowed"]);
        }
    }
    if sources == 0 {
        found.add(&["has no type"]);
    }
    found.subject.clear();
}

/// check_context checks what a pod's and a container's securityContext have in common.
fn check_context(context: Json, windows: bool, found: &mut Found) {
    if context.get("windowsOptions").get("hostProcess").is_true() {
        found.add(&["securityContext.windowsOptions.hostProcess must not be true"]);
    }
    if context.get("runAsNonRoot").is_false() {
        found.add(&["securityContext.runAsNonRoot must be true"]);
    }
    if context.get("runAsUser").int() == Some(0) {
        found.add(&["securityContext.runAsUser must not be 0"]);
    }
    let seccomp = context.get("seccompProfile").get("type");
    if !windows && seccomp.exists() && !one_of(seccomp, SECCOMP) {
        found.add(&["securityContext.seccompProfile.type must be RuntimeDefault or Localhost"]);
    }
    let selinux = context.get("seLinuxOptions");
    if !one_of(selinux.get("type"), SELINUX) {
        found.add(&["securityContext.seLinuxOptions.type must be a container's"]);
    }
    for field in ["user", "role"] {
        if !one_of(selinux.get(field), &[""]) {
            found.add(&["securityContext.seLinuxOptions.", field, " must not be set"]);
        }
    }
    let apparmor = context.get("appArmorProfile").get("type");
    if apparmor.exists() && !one_of(apparmor, SECCOMP) {
        found.add(&["securityContext.appArmorProfile.type must be RuntimeDefault or Localhost"]);
    }
}

/// Inherited is what containers have from their pod.
struct Inherited {
    windows: bool,
    non_root: bool,
    seccomp: bool,
}

fn check_container(container: Json, pod: &Inherited, found: &mut Found) {
    found.subject("container", container);
    let context = container.get("securityContext");
    check_context(context, pod.windows, found);
    if context.get("privileged").is_true() {
        found.add(&["securityContext.privileged must not be true"]);
    }
    if !context.get("runAsNonRoot").exists() && !pod.non_root {
        found.add(&["securityContext.runAsNonRoot must be true"]);
    }
    if !pod.windows {
        if !context.get("allowPrivilegeEscalation").is_false() {
            found.add(&["securityContext.allowPrivilegeEscalation must be false"]);
        }
        if !context.get("seccompProfile").get("type").exists() && !pod.seccomp {
            found.add(&["securityContext.seccompProfile.type must be RuntimeDefault or Localhost"]);
        }
        let capabilities = context.get("capabilities");
        if !capabilities.get("drop").elements().any(|c| c.is("ALL")) {
            found.add(&["securityContext.capabilities.drop must include ALL"]);
        }
        for capability in capabilities.get("add").elements() {
            if !capability.is("NET_BIND_SERVICE") {
                found.add(&["securityContext.capabilities.add must not include ", capability.string().unwrap_or_default()]);
            }
        }
    }
    if !one_of(context.get("procMount"), &["", "Default"]) {
        found.add(&["securityContext.procMount must be Default"]);
    }
    for port in container.get("ports").elements() {
        if port.get("hostPort").int().unwrap_or(0) != 0 {
            found.add(&["ports.hostPort must not be set"]);
        }
    }
    let lifecycle = container.get("lifecycle");
    let handlers = [
        ("livenessProbe", container.get("livenessProbe")),
        ("readinessProbe", container.get("readinessProbe")),
        ("startupProbe", container.get("startupProbe")),
        ("lifecycle.postStart", lifecycle.get("postStart")),
        ("lifecycle.preStop", lifecycle.get("preStop")),
    ];
    for (name, handler) in handlers {
        for action in ["httpGet", "tcpSocket"] {
            if !one_of(handler.get(action).get("host"), &[""]) {
                found.add(&[name, ".", action, ".host must not be set"]);
            }
        }
    }
    found.subject.clear();
}

pintle::export!(Restricted: Admit);
