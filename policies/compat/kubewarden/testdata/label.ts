// A waPC policy in AssemblyScript: it wants a label "team" on every object, and aborts over what it doesn't know.

@external("wapc", "__guest_request")
declare function guestRequest(operation: usize, payload: usize): void;
@external("wapc", "__guest_response")
declare function guestResponse(ptr: usize, len: usize): void;
@external("wapc", "__console_log")
declare function consoleLog(ptr: usize, len: usize): void;

let ready = false;

export function wapc_init(): void {
  ready = true;
}

function say(text: string): void {
  const b = String.UTF8.encode(text);
  guestResponse(changetype<usize>(b), <usize>b.byteLength);
}

export function __guest_call(operationLen: usize, payloadLen: usize): bool {
  const operation = new ArrayBuffer(<i32>operationLen), payload = new ArrayBuffer(<i32>payloadLen);
  guestRequest(changetype<usize>(operation), changetype<usize>(payload));
  const name = String.UTF8.decode(operation);
  if (!ready) throw new Error("not ready");
  if (name == "protocol_version") {
    say('"v1"');
  } else if (name == "validate_settings") {
    say('{"valid":true}');
  } else if (name == "validate") {
    const text = String.UTF8.decode(payload);
    if (text.includes('"abort":')) throw new Error("aborted on purpose");
    const line = String.UTF8.encode("looking");
    consoleLog(changetype<usize>(line), <usize>line.byteLength);
    const at = text.indexOf('"labels":');
    say(at >= 0 && text.indexOf('"team":', at) > 0 ? '{"accepted":true}' : '{"accepted":false,"message":"label team is missing"}');
  } else {
    return false;
  }
  return true;
}
