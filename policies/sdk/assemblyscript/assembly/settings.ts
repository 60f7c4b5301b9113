import { Slice, at, len, is } from "./slice";
import { Text } from "./text";
import { Json, json } from "./json";
import { answer, finish } from "./memory";
import * as wire from "./wire";

// Settings is what the policy object gives.
export class Settings {
  json: Json = 0; // 0: the policy has no settings
  policy: Slice = 0; // name of the policy object
  private message: Slice = 0;

  read(message: Slice): void {
    this.message = message;
    const end = at(message) + len(message);
    for (let p = wire.next(at(message), end); p; p = wire.next(p, end)) {
      if (wire.field == 2) this.json = json.parse(wire.bytes);
      else if (wire.field == 3) this.policy = wire.bytes;
    }
  }

  // granted says whether the policy object grants a capability.
  granted(capability: string): bool {
    const end = at(this.message) + len(this.message);
    for (let p = wire.next(at(this.message), end); p; p = wire.next(p, end)) {
      if (wire.field == 4 && is(wire.bytes, capability)) return true;
    }
    return false;
  }
}

// Wants is how object and old object are encoded. Nothing costs the host nothing: meta and oldMeta say enough.
export enum Wants {
  Json,
  Nothing,
  Protobuf,
}

// Column is eight bytes at the end of each node record.
export enum Column {
  Label,
  LabelNumber,
  Allocatable,
  Requested,
}

// Needs is what the policy asks of the host.
export class Needs {
  error: Text = new Text(); // what is wrong with the settings; empty: they are taken
  wants: Wants = Wants.Json;
  private columns: Text = new Text();

  // column asks for a column, in the order of the calls; name is the label's or the resource's.
  column(kind: Column, name: Slice): void {
    const column = new Text();
    column.putNumber(1, kind);
    column.putString(2, name);
    this.columns.putBytes(3, column.slice());
  }

  answer(): u64 {
    answer.clear();
    answer.putString(1, this.error.slice());
    answer.putNumber(2, this.wants);
    answer.add(this.columns.slice());
    return finish();
  }
}

// readSettings is the first line of pintle_configure.
export function readSettings(p: usize, n: u32): Settings {
  const s = new Settings();
  s.read(((<u64>p) << 32) | n);
  return s;
}
