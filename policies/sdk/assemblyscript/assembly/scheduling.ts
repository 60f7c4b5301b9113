import { Slice, slice, at, len, equal } from "./slice";
import { Text } from "./text";
import { answer, finish, done } from "./memory";
import { Pairs, pairs } from "./wire";
import * as wire from "./wire";

// Pod is the pod that is being placed.
export class Pod {
  uid: Slice = 0;
  namespace: Slice = 0;
  name: Slice = 0;
  labels: Pairs = pairs();
  annotations: Pairs = pairs();
  nodeSelector: Pairs = pairs();
  priority: i32 = 0;
  priorityClass: Slice = 0;
  schedulerName: Slice = 0;
  serviceAccount: Slice = 0;
  ownerKind: Slice = 0;
  ownerName: Slice = 0;
  createdMs: i64 = 0;
  private message: Slice = 0;

  read(message: Slice): void {
    this.message = message;
    this.uid = this.namespace = this.name = this.priorityClass = this.schedulerName = 0;
    this.serviceAccount = this.ownerKind = this.ownerName = 0;
    this.priority = 0;
    this.createdMs = 0;
    this.labels.message = this.annotations.message = this.nodeSelector.message = message;
    this.labels.number = 4;
    this.annotations.number = 5;
    this.nodeSelector.number = 11;
    const end = at(message) + len(message);
    for (let p = wire.next(at(message), end); p; p = wire.next(p, end)) {
      switch (wire.field) {
        case 1:
          this.uid = wire.bytes;
          break;
        case 2:
          this.namespace = wire.bytes;
          break;
        case 3:
          this.name = wire.bytes;
          break;
        case 6:
          this.priority = <i32>wire.value;
          break;
        case 7:
          this.priorityClass = wire.bytes;
          break;
        case 8:
          this.schedulerName = wire.bytes;
          break;
        case 9:
          this.serviceAccount = wire.bytes;
          break;
        case 12:
          this.ownerKind = wire.bytes;
          break;
        case 13:
          this.ownerName = wire.bytes;
          break;
        case 15:
          this.createdMs = <i64>wire.value;
          break;
      }
    }
  }

  // requested is what the pod asks of a resource, in thousandths of its unit.
  requested(resource: Slice): i64 {
    const end = at(this.message) + len(this.message);
    for (let p = wire.next(at(this.message), end); p; p = wire.next(p, end)) {
      if (wire.field != 10) continue;
      const quantity = wire.bytes;
      const quantityEnd = at(quantity) + len(quantity);
      let name: Slice = 0;
      let milli: i64 = 0;
      for (let q = wire.next(at(quantity), quantityEnd); q; q = wire.next(q, quantityEnd)) {
        if (wire.field == 1) name = wire.bytes;
        else if (wire.field == 2) milli = <i64>wire.value;
      }
      if (equal(name, resource)) return milli;
    }
    return 0;
  }
}

const pod: Pod = new Pod();

// readPod is the first line of pintle_place and pintle_queue_key.
export function readPod(p: usize, n: u32): Pod {
  pod.read(slice(p, n));
  return pod;
}

// queueKey ends pintle_queue_key: smaller goes first, equals by priority and age.
export function queueKey(key: i64): i64 {
  done();
  return key;
}

// PostFilterRequest is what pintle_post_filter is asked.
export class PostFilterRequest {
  pod: Pod = new Pod();
  reason: Slice = 0; // of the refusal that next found
  nodes: u32 = 0; // how many were refused for it
  private message: Slice = 0;
  private p: usize = 0;

  read(message: Slice): void {
    this.message = message;
    this.pod.read(wire.part(message, 1));
    this.p = at(message);
  }

  // next walks why nodes were refused, most frequent first. False at the end.
  next(): bool {
    const end = at(this.message) + len(this.message);
    while (this.p < end) {
      this.p = wire.next(this.p, end);
      if (wire.field != 2) continue;
      const count = wire.bytes;
      const countEnd = at(count) + len(count);
      this.reason = 0;
      this.nodes = 0;
      for (let q = wire.next(at(count), countEnd); q; q = wire.next(q, countEnd)) {
        if (wire.field == 1) this.reason = wire.bytes;
        else if (wire.field == 2) this.nodes = <u32>wire.value;
      }
      return true;
    }
    return false;
  }
}

const postFilterRequest: PostFilterRequest = new PostFilterRequest();

// readPostFilterRequest is the first line of pintle_post_filter.
export function readPostFilterRequest(p: usize, n: u32): PostFilterRequest {
  postFilterRequest.read(slice(p, n));
  return postFilterRequest;
}

// postFilter ends pintle_post_filter: what is added to the pod's event, and the node to wait for (0: none).
export function postFilter(message: Slice, nominate: Slice): u64 {
  answer.clear();
  answer.putString(1, message);
  answer.putString(2, nominate);
  return finish();
}

// PermitRequest is what pintle_permit is asked.
export class PermitRequest {
  pod: Pod = new Pod();
  node: Slice = 0;
  private message: Slice = 0;
  private waiting: Pod = new Pod();
  private p: usize = 0;

  read(message: Slice): void {
    this.message = message;
    this.pod.read(wire.part(message, 1));
    this.node = wire.part(message, 2);
    this.p = at(message);
  }

  // nextWaiting walks the pods that this policy told to wait; null at the end. The pod is the same object each time.
  nextWaiting(): Pod | null {
    const end = at(this.message) + len(this.message);
    while (this.p < end) {
      this.p = wire.next(this.p, end);
      if (wire.field != 3) continue;
      this.waiting.read(wire.part(wire.bytes, 1));
      return this.waiting;
    }
    this.p = at(this.message);
    return null;
  }
}

export enum Decision {
  Allow,
  Wait,
  Deny,
}

// PermitResponse allows, unless it says otherwise.
export class PermitResponse {
  decision: Decision = Decision.Allow;
  timeoutMs: i64 = 0; // of Wait: the pod is refused after it
  reason: Text = new Text();
  private uids: Text = new Text();

  clear(): void {
    this.decision = Decision.Allow;
    this.timeoutMs = 0;
    this.reason.clear();
    this.uids.clear();
  }

  // allow lets a waiting pod wait no longer.
  allow(uid: Slice): void {
    this.uids.putBytes(4, uid);
  }

  // reject refuses a waiting pod now.
  reject(uid: Slice): void {
    this.uids.putBytes(5, uid);
  }

  answer(): u64 {
    answer.clear();
    answer.putNumber(1, this.decision);
    answer.putNumber(2, this.timeoutMs);
    answer.putString(3, this.reason.slice());
    answer.add(this.uids.slice());
    return finish();
  }
}

const permitRequest: PermitRequest = new PermitRequest();
export const permitResponse: PermitResponse = new PermitResponse();

// readPermitRequest is the first line of pintle_permit; the last is `return permitResponse.answer()`.
export function readPermitRequest(p: usize, n: u32): PermitRequest {
  permitResponse.clear();
  permitRequest.read(slice(p, n));
  return permitRequest;
}
