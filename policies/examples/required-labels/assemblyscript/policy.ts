// Objects carry the labels that the settings require, and pods' images come from the registries that they allow. See ../README.md.
import {
  Slice, Json, json, Text, Settings, Needs, Wants, Request, Operation, Meta,
  slice, at, len, equal, is, has, keep, readSettings, readRequest, response,
} from "../../../sdk/assemblyscript/assembly";

export { pintle_abi, pintle_alloc } from "../../../sdk/assemblyscript/assembly";

const SLASH: u8 = 47;
const DOT: u8 = 46;
const COLON: u8 = 58;
const AT: u8 = 64;

// List is strings that stay.
class List {
  private p: usize = 0;
  length: u32 = 0;

  // read takes a list of strings that aren't empty. False: the value is something else.
  read(list: Json): bool {
    if (!json.isArray(list)) return false;
    let n: u32 = 0;
    for (let e = json.first(list); e; e = json.next(e), n++) {
      if (len(json.text(e)) == 0) return false;
    }
    this.p = heap.alloc(8 * n);
    this.length = 0;
    for (let e = json.first(list); e; e = json.next(e)) store<u64>(this.p + 8 * this.length++, keep(json.text(e)));
    return true;
  }

  // @ts-ignore: decorator
  @inline
  at(i: u32): Slice {
    return load<u64>(this.p + 8 * i);
  }
}

const labels: List = new List();
const registries: List = new List();

export function pintle_configure(p: usize, n: u32): u64 {
  const settings = readSettings(p, n);
  const needs = new Needs();
  for (let m = json.first(settings.json); m; m = json.next(m)) {
    const key = json.key(m);
    if (is(key, "labels")) {
      if (!labels.read(json.member(m))) {
        needs.error.addText("settings.labels: want a list of label keys");
        break;
      }
    } else if (is(key, "registries")) {
      if (!registries.read(json.member(m))) {
        needs.error.addText("settings.registries: want a list of registries");
        break;
      }
    } else {
      needs.error.addText('settings: unknown field "');
      needs.error.add(key);
      needs.error.addText('"');
      break;
    }
  }
  if (!needs.error.length && labels.length + registries.length == 0) {
    needs.error.addText("settings: name required labels, allowed registries, or both");
  }
  needs.wants = registries.length ? Wants.Json : Wants.Nothing;
  return needs.answer();
}

export function pintle_admit(p: usize, n: u32): u64 {
  const r = readRequest(p, n);
  if (r.operation != Operation.Create && r.operation != Operation.Update) return response.answer();
  if (len(r.subresource) && !is(r.subresource, "ephemeralcontainers")) return response.answer();
  checkLabels(r);
  if (!response.message.length && registries.length) checkImages(r);
  return response.answer();
}

// A label that an update finds missing may stay missing, so that objects from before the policy can be let go.
function checkLabels(r: Request): void {
  for (let i: u32 = 0; i < labels.length; i++) {
    const label = labels.at(i);
    if (r.meta.labels.get(label)) continue;
    if (r.oldMeta.exists && !r.oldMeta.labels.get(label)) continue;
    response.message.addText(response.message.length ? ", " : "missing required labels: ");
    response.message.add(label);
  }
}

function checkImages(r: Request): void {
  const spec = json.get(json.podTemplate(r.kind, json.parse(r.object)), "spec");
  const old = json.get(json.podTemplate(r.kind, json.parse(r.oldObject)), "spec");
  if (!spec || (old && equal(json.raw(old), json.raw(spec)))) return; // what was there before may stay
  if (!checkContainers(json.get(spec, "initContainers"))) return;
  if (!checkContainers(json.get(spec, "containers"))) return;
  if (!checkContainers(json.get(spec, "ephemeralContainers"))) return;
  for (let v = json.first(json.get(spec, "volumes")); v; v = json.next(v)) {
    const image = json.get(v, "image");
    if (image && !check("volume", v, json.get(image, "reference"))) return;
  }
}

function checkContainers(list: Json): bool {
  for (let c = json.first(list); c; c = json.next(c)) {
    if (!check("container", c, json.get(c, "image"))) return false;
  }
  return true;
}

function check(what: string, named: Json, value: Json): bool {
  const image = json.text(value);
  const name = full(image);
  for (let i: u32 = 0; i < registries.length; i++) {
    if (within(name, registries.at(i))) return true;
  }
  response.message.addText(what);
  response.message.addText(' "');
  response.message.add(json.text(json.get(named, "name")));
  response.message.addText('": image "');
  response.message.add(image);
  response.message.addText('" is not from an allowed registry');
  return false;
}

const name: Text = new Text();

// full adds what the short names of Docker's registry leave out.
function full(image: Slice): Slice {
  let n: u32 = 0;
  while (n < len(image) && load<u8>(at(image) + n) != SLASH) n++;
  const host = slice(at(image), n);
  const short = n == len(image);
  if (!short && (has(host, DOT) || has(host, COLON) || is(host, "localhost"))) return image;
  name.clear();
  name.addText(short ? "docker.io/library/" : "docker.io/");
  name.add(image);
  return name.slice();
}

// within: the entry is the whole name, or ends where a part of the name does.
function within(image: Slice, entry: Slice): bool {
  const n = len(entry);
  if (len(image) < n || !equal(slice(at(image), n), entry)) return false;
  if (len(image) == n || load<u8>(at(entry) + n - 1) == SLASH) return true;
  const next = load<u8>(at(image) + n);
  if (next == COLON) return has(entry, SLASH); // a tag follows a repository; after a host's name it would be a port
  return next == SLASH || next == AT;
}
