// Signed colours: blue adds, orange takes away, the ground is nothing. Blue and orange stay apart for every kind of colour vision.

const ENDS = {
  light: { negative: [[253, 244, 232], [240, 178, 100], [196, 98, 10], [112, 46, 2]], positive: [[232, 242, 252], [122, 182, 230], [24, 104, 184], [6, 44, 104]], ground: [250, 250, 251] },
  dark: { negative: [[48, 38, 28], [140, 76, 16], [228, 138, 40], [255, 196, 122]], positive: [[26, 38, 54], [24, 88, 156], [72, 158, 236], [158, 210, 255]], ground: [28, 31, 36] },
};
const LUT = { light: null, dark: null };

function between(stops, x) {
  const at = x * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2), f = at - i;
  return stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * f));
}

// 511 colours, from -1 at 0 over 0 at 255 to 1 at 510, as 0xAABBGGRR.
export function colours(theme) {
  if (LUT[theme]) return LUT[theme];
  const lut = new Uint32Array(511), ends = ENDS[theme];
  for (let i = 0; i < 511; i++) {
    const x = (i - 255) / 255;
    const [r, g, b] = between([ends.ground, ...(x < 0 ? ends.negative : ends.positive)], Math.abs(x));
    lut[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return (LUT[theme] = lut);
}

export function place(v, peak, root) {
  const x = Math.max(-1, Math.min(1, v / (peak || 1)));
  return 255 + Math.round(255 * (root ? Math.sign(x) * Math.sqrt(Math.abs(x)) : x));
}

export function css(word) {
  return `rgb(${word & 255},${(word >> 8) & 255},${(word >> 16) & 255})`;
}

// Black or white, whichever reads better on a colour.
export function ink(word) {
  const linear = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = 0.2126 * linear(word & 255) + 0.7152 * linear((word >> 8) & 255) + 0.0722 * linear((word >> 16) & 255);
  return light > 0.179 ? "#101214" : "#ffffff";
}

// Values on a canvas of as many points, a square if not said otherwise; NaN is left clear.
export function paint(canvas, values, high, peak, root, theme, wide = high) {
  canvas.width = wide;
  canvas.height = high;
  const context = canvas.getContext("2d"), image = context.createImageData(wide, high);
  const points = new Uint32Array(image.data.buffer), lut = colours(theme);
  for (let i = 0; i < values.length; i++) if (values[i] === values[i]) points[i] = lut[place(values[i], peak, root)];
  context.putImageData(image, 0, 0);
}
