import { Slice, slice, at, len } from "./slice";
import { Text } from "./text";
import { answer, finish } from "./memory";
import { Pairs, pairs } from "./wire";
import * as wire from "./wire";

export enum Operation {
  Unknown,
  Create,
  Update,
  Delete,
  Connect,
}

// Meta is an object's metadata, as far as labels and annotations.
export class Meta {
  exists: bool = false;
  labels: Pairs = pairs();
  annotations: Pairs = pairs();

  read(message: Slice): void {
    this.exists = message != 0;
    this.labels.message = message;
    this.labels.number = 3;
    this.annotations.message = message;
    this.annotations.number = 4;
  }
}

// Request is what is to be decided.
export class Request {
  operation: Operation = Operation.Unknown;
  dryRun: bool = false;
  uid: Slice = 0;
  group: Slice = 0;
  version: Slice = 0;
  kind: Slice = 0;
  resource: Slice = 0;
  subresource: Slice = 0;
  namespace: Slice = 0;
  name: Slice = 0;
  username: Slice = 0;
  meta: Meta = new Meta();
  oldMeta: Meta = new Meta();
  object: Slice = 0; // as the policy wants it
  oldObject: Slice = 0;

  read(message: Slice): void {
    this.operation = Operation.Unknown;
    this.dryRun = false;
    this.uid = this.group = this.version = this.kind = this.resource = this.subresource = 0;
    this.namespace = this.name = this.username = this.object = this.oldObject = 0;
    this.meta.read(0);
    this.oldMeta.read(0);
    const end = at(message) + len(message);
    for (let p = wire.next(at(message), end); p; p = wire.next(p, end)) {
      const bytes = wire.bytes;
      switch (wire.field) {
        case 1:
          this.uid = bytes;
          break;
        case 2:
          this.operation = <Operation>wire.value;
          break;
        case 3:
          this.group = wire.part(bytes, 1, this.group);
          this.version = wire.part(bytes, 2, this.version);
          this.kind = wire.part(bytes, 3, this.kind);
          break;
        case 4:
          this.resource = wire.part(bytes, 3, this.resource);
          break;
        case 5:
          this.subresource = bytes;
          break;
        case 6:
          this.namespace = bytes;
          break;
        case 7:
          this.name = bytes;
          break;
        case 8:
          this.username = wire.part(bytes, 1, this.username);
          break;
        case 9:
          this.dryRun = wire.value != 0;
          break;
        case 10:
          this.meta.read(bytes);
          break;
        case 11:
          this.oldMeta.read(bytes);
          break;
        case 12:
          this.object = bytes;
          break;
        case 13:
          this.oldObject = bytes;
          break;
      }
    }
  }
}

export enum PatchType {
  JsonPatch,
  MergePatch,
  Object,
}

// Response allows, as long as message is empty and refused is not set.
export class Response {
  refused: bool = false;
  code: u32 = 0; // HTTP status of a refusal; 0: 403
  message: Text = new Text(); // why it is refused, for a person
  reason: Slice = 0; // likewise, for a program
  patch: Slice = 0; // of a mutating policy
  patchType: PatchType = PatchType.JsonPatch;
  private more: Text = new Text();
  private pair: Text = new Text();

  clear(): void {
    this.refused = false;
    this.code = 0;
    this.message.clear();
    this.reason = this.patch = 0;
    this.patchType = PatchType.JsonPatch;
    this.more.clear();
  }

  warn(text: Slice): void {
    this.more.putBytes(5, text);
  }

  audit(key: Slice, value: Slice): void {
    this.pair.clear();
    this.pair.putString(1, key);
    this.pair.putString(2, value);
    this.more.putBytes(6, this.pair.slice());
  }

  answer(): u64 {
    const allowed = !this.refused && this.message.length == 0;
    answer.clear();
    answer.putNumber(1, allowed ? 1 : 0);
    if (!allowed) {
      answer.putNumber(2, this.code);
      answer.putString(3, this.message.slice());
      answer.putString(4, this.reason);
    }
    answer.add(this.more.slice());
    answer.putString(7, this.patch);
    answer.putNumber(8, this.patchType);
    return finish();
  }
}

// They are used again and again: a call makes no garbage.
const request: Request = new Request();
export const response: Response = new Response();

// readRequest is the first line of pintle_admit; the last is `return response.answer()`.
export function readRequest(p: usize, n: u32): Request {
  response.clear();
  request.read(slice(p, n));
  return request;
}
