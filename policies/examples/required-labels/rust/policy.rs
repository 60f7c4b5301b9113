//! Objects carry the labels that the settings require, and pods' images come from the registries that they allow. See
//! ../README.md.
#![no_std]

use pintle::json::pod_template;
use pintle::{text, Json, List, Needs, Operation, Request, Response, Settings, Text, Wants};

struct Required {
    labels: List<Text>,
    registries: List<Text>,
}

/// strings reads a list of strings that aren't empty.
fn strings(list: Json) -> Option<List<Text>> {
    let mut all = List::new();
    for e in list.elements() {
        all.push(e.string().filter(|s| !s.is_empty())?.into());
    }
    if list.kind() == b'[' {
        Some(all)
    } else {
        None
    }
}

impl pintle::Policy for Required {
    fn configure(settings: &Settings, needs: &mut Needs) -> Result<Self, Text> {
        let mut policy = Required { labels: List::new(), registries: List::new() };
        for (key, value) in settings.json.members() {
            match key {
                "labels" => policy.labels = strings(value).ok_or("settings.labels: want a list of label keys")?,
                "registries" => policy.registries = strings(value).ok_or("settings.registries: want a list of registries")?,
                _ => return Err(text(&["settings: unknown field \"", key, "\""])),
            }
        }
        if policy.labels.is_empty() && policy.registries.is_empty() {
            return Err("settings: name required labels, allowed registries, or both".into());
        }
        needs.wants = if policy.registries.is_empty() { Wants::Nothing } else { Wants::Json };
        Ok(policy)
    }
}

impl pintle::Admit for Required {
    fn admit(&mut self, request: &Request, response: &mut Response) {
        if request.operation != Operation::Create && request.operation != Operation::Update {
            return;
        }
        if !request.subresource.is_empty() && request.subresource != "ephemeralcontainers" {
            return;
        }
        if let Some(message) = self.missing_labels(request) {
            response.refuse(message);
        } else if !self.registries.is_empty() {
            if let Some(message) = self.foreign_image(request) {
                response.refuse(message);
            }
        }
    }
}

impl Required {
    /// A label that an update finds missing may stay missing, so that objects from before the policy can be let go.
    fn missing_labels(&self, request: &Request) -> Option<Text> {
        let mut message = Text::new();
        for label in self.labels.iter() {
            let missed = |meta: &pintle::Meta| meta.labels.get(label).is_none();
            if missed(&request.meta) && !(request.old_meta.there && missed(&request.old_meta)) {
                message.push(if message.is_empty() { "missing required labels: " } else { ", " });
                message.push(label);
            }
        }
        if message.is_empty() {
            None
        } else {
            Some(message)
        }
    }

    fn foreign_image(&self, request: &Request) -> Option<Text> {
        let spec = pod_template(request.kind, Json::of(request.object)).get("spec");
        let old = pod_template(request.kind, Json::of(request.old_object)).get("spec");
        if old.exists() && old.raw() == spec.raw() {
            return None; // what was there before may stay
        }
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            for container in spec.get(list).elements() {
                if let Some(message) = self.check("container", container, container.get("image")) {
                    return Some(message);
                }
            }
        }
        for volume in spec.get("volumes").elements() {
            let image = volume.get("image");
            if image.exists() {
                if let Some(message) = self.check("volume", volume, image.get("reference")) {
                    return Some(message);
                }
            }
        }
        None
    }

    fn check(&self, what: &str, named: Json, image: Json) -> Option<Text> {
        let image = image.string().unwrap_or_default();
        let whole = full(image);
        if self.registries.iter().any(|entry| within(&whole, entry)) {
            return None;
        }
        let name = named.get("name").string().unwrap_or_default();
        Some(text(&[what, " \"", name, "\": image \"", image, "\" is not from an allowed registry"]))
    }
}

/// full adds what the short names of Docker's registry leave out.
fn full(image: &str) -> Text {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.into(),
        Some(_) => text(&["docker.io/", image]),
        None => text(&["docker.io/library/", image]),
    }
}

/// within: the entry is the whole name, or ends where a part of the name does.
fn within(image: &str, entry: &str) -> bool {
    match image.strip_prefix(entry) {
        None => false,
        Some(rest) if rest.is_empty() || entry.ends_with('/') => true,
        // A tag follows a repository; after a host's name it would be a port.
        Some(rest) => rest.starts_with(['/', '@']) || rest.starts_with(':') && entry.contains('/'),
    }
}

pintle::export!(Required: Admit);
