//! The pods of a namespace together ask for no more GPUs than it may have. See ../README.md.
#![no_std]

use pintle::{lookup, text, Json, List, Needs, Operation, Request, Response, Settings, Text};

struct Quota {
    resource: Text,
    usual: Option<i64>, // of namespaces that aren't named; none: no limit
    namespaces: List<(Text, i64)>,
}

impl pintle::Policy for Quota {
    fn configure(settings: &Settings, _: &mut Needs) -> Result<Self, Text> {
        let mut quota = Quota { resource: "nvidia.com/gpu".into(), usual: None, namespaces: List::new() };
        for (key, value) in settings.json.members() {
            match key {
                "resource" => {
                    let name = value.string().filter(|s| !s.is_empty());
                    quota.resource = name.ok_or("settings.resource: want the name of a resource")?.into();
                }
                "default" => quota.usual = Some(limit(value).ok_or("settings.default: want a whole number from 0 on")?),
                "namespaces" if value.kind() == b'{' => {
                    for (namespace, value) in value.members() {
                        let n = limit(value).ok_or_else(|| text(&["settings.namespaces.", namespace, ": want a whole number from 0 on"]))?;
                        quota.namespaces.push((namespace.into(), n));
                    }
                }
                "namespaces" => return Err("settings.namespaces: want a limit by name".into()),
                _ => return Err(text(&["settings: unknown field \"", key, "\""])),
            }
        }
        if quota.usual.is_none() && quota.namespaces.is_empty() {
            return Err("settings: name a limit for namespaces, by default, or both".into());
        }
        if !settings.granted("read:/pods") {
            return Err("grant the capability \"read:/pods\": the policy counts what pods ask for".into());
        }
        Ok(quota)
    }
}

fn limit(value: Json) -> Option<i64> {
    value.int().filter(|n| *n >= 0 && *n <= 1_000_000_000)
}

impl pintle::Admit for Quota {
    fn admit(&mut self, request: &Request, response: &mut Response) {
        if request.operation != Operation::Create || request.kind != "Pod" || !request.subresource.is_empty() {
            return;
        }
        let named = self.namespaces.iter().find(|(name, _)| &**name == request.namespace).map(|(_, n)| *n);
        let most = match named.or(self.usual) {
            Some(n) => n,
            None => return,
        };
        let want = match self.pod(Json::of(request.object)) {
            Some(0) => return,
            Some(want) => want,
            None => return response.refuse(text(&["this policy can't read what the pod asks for of ", &self.resource])),
        };
        let used: i64 = lookup(&text(&["/v1/pods/", request.namespace, "/"]), |list| {
            let there = |p: &Json| {
                let phase = p.get("status").get("phase");
                !phase.is("Succeeded") && !phase.is("Failed")
            };
            list.get("items").elements().filter(there).map(|p| self.pod(p).unwrap_or(0)).sum()
        });
        if used + want > 1000 * most {
            let mut message = text(&["namespace \"", request.namespace, "\" may have "]);
            message.push_number(most);
            message.push(" of ");
            message.push(&self.resource);
            message.push(": its pods ask for ");
            push_units(&mut message, used);
            message.push(", and this one for ");
            push_units(&mut message, want);
            response.refuse(message);
        }
    }
}

/// push_units writes thousandths.
fn push_units(to: &mut Text, milli: i64) {
    if milli % 1000 == 0 {
        to.push_number(milli / 1000);
    } else {
        to.push_number(milli);
        to.push("m");
    }
}

impl Quota {
    /// pod is what a pod asks for, in thousandths, as the scheduler counts it: its containers and sidecars together, or the
    /// init container that asks for more while it runs. None: a quantity can't be read.
    fn pod(&self, pod: Json) -> Option<i64> {
        let spec = pod.get("spec");
        let (mut sidecars, mut peak, mut sum) = (0, 0, 0);
        for container in spec.get("initContainers").elements() {
            let n = self.container(container)?;
            if container.get("restartPolicy").is("Always") {
                sidecars += n;
                peak = peak.max(sidecars);
            } else {
                peak = peak.max(sidecars + n);
            }
        }
        for container in spec.get("containers").elements() {
            sum += self.container(container)?;
        }
        Some(peak.max(sidecars + sum))
    }

    fn container(&self, container: Json) -> Option<i64> {
        let resources = container.get("resources");
        let mut value = resources.get("requests").get(&self.resource);
        if !value.exists() {
            value = resources.get("limits").get(&self.resource);
        }
        match value.kind() {
            b' ' => Some(0),
            b'"' => quantity(value.string()?),
            _ => value.int().and_then(|n| n.checked_mul(1000)),
        }
    }
}

/// quantity reads a Kubernetes quantity that is a whole number, of thousandths or thousands too.
fn quantity(text: &str) -> Option<i64> {
    let (digits, unit) = match text.char_indices().last()? {
        (i, 'm') => (&text[..i], 1),
        (i, 'k') => (&text[..i], 1_000_000),
        _ => (text, 1000),
    };
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse::<i64>().ok()? * unit)
}

pintle::export!(Quota: Admit);
