//! The pods of a group are bound together, once enough of them have a place. See ../README.md.
#![no_std]

use pintle::{lookup, text, Decision, Json, Needs, PermitRequest, PermitResponse, Pod, Settings, Text};

struct Gang {
    name_label: Text,
    min_label: Text,
    timeout_ms: i64,
    sees_pods: bool,
}

impl pintle::Policy for Gang {
    fn configure(settings: &Settings, _: &mut Needs) -> Result<Self, Text> {
        let mut gang = Gang {
            name_label: "pod-group.scheduling.sigs.k8s.io/name".into(),
            min_label: "pod-group.scheduling.sigs.k8s.io/min-available".into(),
            timeout_ms: 60_000,
            sees_pods: settings.granted("read:/pods"),
        };
        for (key, value) in settings.json.members() {
            let label = || value.string().filter(|s| !s.is_empty()).map(Text::from);
            match key {
                "nameLabel" => gang.name_label = label().ok_or("settings.nameLabel: want a label's key")?,
                "minLabel" => gang.min_label = label().ok_or("settings.minLabel: want a label's key")?,
                "timeoutSeconds" => match value.int() {
                    Some(n) if n > 0 && n <= 86_400 => gang.timeout_ms = 1000 * n,
                    _ => return Err("settings.timeoutSeconds: want a number from 1 to 86400".into()),
                },
                _ => return Err(text(&["settings: unknown field \"", key, "\""])),
            }
        }
        Ok(gang)
    }
}

impl pintle::Permit for Gang {
    fn permit(&mut self, request: &PermitRequest, response: &mut PermitResponse) {
        let pod = &request.pod;
        let name = match pod.labels.get(&self.name_label) {
            Some(name) if !name.is_empty() => name,
            _ => return,
        };
        let min = pod.labels.get(&self.min_label).unwrap_or("");
        let min = match min.parse::<u32>() {
            Ok(n) if n > 0 && n <= 100_000 => n,
            _ => {
                response.decision = Decision::Deny;
                response.reason = text(&["label ", &self.min_label, ": want the group's number of pods, not \"", min, "\""]);
                return;
            }
        };
        let ours = |other: &Pod| other.namespace == pod.namespace && other.uid != pod.uid && other.labels.get(&self.name_label) == Some(name);
        let mut there = 1 + request.waiting().filter(ours).count() as u32;
        if there < min && self.sees_pods {
            there += self.bound(pod, name);
        }
        if there >= min {
            for other in request.waiting().filter(ours) {
                response.allow.push(other.uid.into());
            }
            return;
        }
        response.decision = Decision::Wait;
        response.timeout_ms = self.timeout_ms;
        response.reason = text(&["gang \"", name, "\": "]);
        response.reason.push_number(there.into());
        response.reason.push(" of ");
        response.reason.push_number(min.into());
        response.reason.push(" pods have a place");
    }
}

impl Gang {
    /// bound counts the group's pods that have a node already and haven't ended: those that were there before.
    fn bound(&self, pod: &Pod, name: &str) -> u32 {
        lookup(&text(&["/v1/pods/", pod.namespace, "/"]), |list| {
            let ours = |p: &Json| {
                let (meta, phase) = (p.get("metadata"), p.get("status").get("phase"));
                meta.get("labels").get(&self.name_label).is(name)
                    && !meta.get("uid").is(pod.uid)
                    && p.get("spec").get("nodeName").string().map_or(false, |node| !node.is_empty())
                    && !phase.is("Succeeded")
                    && !phase.is("Failed")
            };
            list.get("items").elements().filter(ours).count() as u32
        })
    }
}

pintle::export!(Gang: Permit);
