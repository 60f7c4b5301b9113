// What guests spend their time on, as a compiler leaves it. Each takes the number of rounds and returns something
// that depends on all of them.
// clang --target=wasm32 -O2 -nostdlib -fno-builtin -Wl,--no-entry -Wl,--export-all -o loops.wasm loops.c
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

static u8 text[65536];
static u32 table[256];
static double a[32][32], b[32][32], c[32][32];

int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

u32 sum(int rounds) { // the tightest loop there is
  u32 s = 0;
  for (int r = 0; r < rounds; r++)
    for (int i = 0; i < 65536; i++) s = s * 31 + text[i];
  return s;
}

u32 sieve(int rounds) {
  u32 n = 0;
  for (int r = 0; r < rounds; r++) {
    for (int i = 0; i < 65536; i++) text[i] = 1;
    for (int i = 2; i < 65536; i++) {
      if (!text[i]) continue;
      n++;
      for (int k = i + i; k < 65536; k += i) text[k] = 0;
    }
  }
  return n;
}

u32 crc(int rounds) {
  for (u32 i = 0; i < 256; i++) {
    u32 v = i;
    for (int k = 0; k < 8; k++) v = v & 1 ? v >> 1 ^ 0xedb88320 : v >> 1;
    table[i] = v;
  }
  u32 v = ~0u;
  for (int r = 0; r < rounds; r++)
    for (int i = 0; i < 65536; i++) v = table[(v ^ text[i]) & 255] ^ v >> 8;
  return v;
}

double multiply(int rounds) {
  for (int i = 0; i < 32; i++)
    for (int k = 0; k < 32; k++) a[i][k] = i + k, b[i][k] = i - k;
  double s = 0;
  for (int r = 0; r < rounds; r++) {
    for (int i = 0; i < 32; i++)
      for (int k = 0; k < 32; k++) {
        double v = 0;
        for (int l = 0; l < 32; l++) v += a[i][l] * b[l][k];
        c[i][k] = v;
      }
    s += c[r & 31][7];
  }
  return s;
}

static __attribute__((noinline)) int is_space(u8 ch) { return ch == ' ' || ch == '\n' || ch == '\t' || ch == '\r'; }

u32 scan(int rounds) { // branches and calls, as a parser has them
  static const char json[] = "{\"kind\": \"Pod\", \"n\": [1, 22, 333], \"s\": \"a \\\"b\\\" c\", \"t\": true}\n";
  for (int i = 0; i < 65536; i++) text[i] = json[i % (sizeof json - 1)];
  u32 depth = 0, strings = 0, digits = 0, other = 0, inside = 0;
  for (int r = 0; r < rounds; r++)
    for (int i = 0; i < 65536; i++) {
      u8 ch = text[i];
      if (inside) {
        if (ch == '\\') i++;
        else if (ch == '"') inside = 0;
        continue;
      }
      if (is_space(ch)) continue;
      switch (ch) {
      case '{': case '[': depth++; break;
      case '}': case ']': depth--; break;
      case '"': inside = 1; strings++; break;
      default:
        if (ch >= '0' && ch <= '9') digits++;
        else other++;
      }
    }
  return depth + strings * 3 + digits * 7 + other * 11;
}

struct node { u64 cpu, used, memory, busy; u32 flags, zone; };
static struct node nodes[1000];

u32 place(int rounds) { // filter and score, as a scheduling policy does
  for (int i = 0; i < 1000; i++) nodes[i] = (struct node){64000, (u64)i * 61 % 64000, 1 << 30, (u64)i * 977 % (1 << 30), i % 7 == 0, i % 3};
  u32 best = 0;
  for (int r = 0; r < rounds; r++)
    for (int i = 0; i < 1000; i++) {
      struct node *n = &nodes[i];
      if (n->flags & 1 || n->cpu - n->used < 2000 || n->memory - n->busy < 4096) continue;
      u32 score = (u32)(n->used * 100 / n->cpu + n->busy * 100 / n->memory) / 2;
      if (n->zone == (u32)r % 3) score += 10;
      if (score > best) best = score;
    }
  return best;
}

u32 interpret(int rounds) { // a loop around a switch
  static const u8 code[] = {0, 5, 1, 3, 2, 0, 7, 3, 1, 9, 4, 0, 1, 1, 5, 2, 6, 0};
  u32 acc = 1, x = 2;
  for (int r = 0; r < rounds; r++)
    for (int pc = 0; pc < (int)sizeof code;) {
      switch (code[pc]) {
      case 0: acc += code[pc + 1]; pc += 2; break;
      case 1: acc ^= x; pc++; break;
      case 2: x = acc >> 3; pc++; break;
      case 3: acc *= 3; pc++; break;
      case 4: x += acc; pc++; break;
      case 5: acc = acc << 5 | acc >> 27; pc++; break;
      default: pc++;
      }
    }
  return acc + x;
}
