// The bytes of maps as they stand in a page, made numbers again: what `reports/attention_maps.py` encodes.

export function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

export async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const halves = (() => {
  let table = null;
  return () => {
    if (table) return table;
    table = new Float32Array(65536);
    for (let h = 0; h < 65536; h++) {
      const e = (h >> 10) & 31, m = h & 1023, sign = h & 32768 ? -1 : 1;
      table[h] = sign * (e === 0 ? m * 2 ** -24 : e === 31 ? (m ? NaN : Infinity) : (1024 + m) * 2 ** (e - 25));
    }
    return table;
  };
})();

// Square-root steps of 1 / 127, undone.
export function fromInt8(bytes, scale) {
  const table = new Float32Array(256);
  for (let b = 0; b < 256; b++) {
    const q = b < 128 ? b : b - 256;
    table[b] = Math.sign(q) * (q / 127) ** 2 * scale;
  }
  const out = new Float32Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) out[i] = table[bytes[i]];
  return out;
}

// The bytes of equal weight stand together in the file.
export function fromPlanes(bytes, precision, scale) {
  if (precision === "int8") return fromInt8(bytes, scale);
  const width = precision === "float16" ? 2 : 4, length = bytes.length / width;
  const out = new Float32Array(length);
  if (width === 2) {
    const table = halves();
    for (let i = 0; i < length; i++) out[i] = table[bytes[i] | (bytes[length + i] << 8)] * scale;
  } else {
    const words = new Uint32Array(out.buffer);
    for (let i = 0; i < length; i++) {
      words[i] = bytes[i] | (bytes[length + i] << 8) | (bytes[2 * length + i] << 16) | (bytes[3 * length + i] << 24);
    }
  }
  return out;
}
