// Draws Gaussians with WebGL2: each is a rectangle around its ellipse on screen, blended back to front.
// The picture matches dreamsplat's reference renderer: the same projection, blur, threshold and cap of alpha.

const CONSTANTS = `
const float NEAR = 0.01, WIDENING = 0.3, BLUR_PX2 = 0.3, MAX_ALPHA = 0.99, MIN_ALPHA = 1.0 / 255.0;`;

// --- the asset -------------------------------------------------------------------------------------------------------

/** The numbers in the page, see html/__init__.py: means in float32, then columns quantised to 16 and to 8 bits. */
function decode(about, base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const count = about.count, wide = about.wide.length, narrow = about.narrow.length;
  const means = new Float32Array(bytes.buffer, 0, 3 * count);
  const codes = new Uint16Array(bytes.buffer, 12 * count, wide * count);
  const small = new Uint8Array(bytes.buffer, (12 + 2 * wide) * count, narrow * count);
  return {
    count, means, coefficients: (wide - 8 + narrow) / 3,
    wide: (i, column) => about.wide[column][0] + about.wide[column][1] * codes[i * wide + column],
    narrow: (i, column) => about.narrow[column][0] + about.narrow[column][1] * small[i * narrow + column],
  };
}

/** What the vertex shader reads, `stride` texels per Gaussian: mean and opacity, covariance (2), harmonics. */
function texels(asset, width) {
  const stride = 3 + asset.coefficients, rows = Math.max(1, Math.ceil(asset.count * stride / width));
  const table = new Float32Array(4 * width * rows), half = new Float64Array(9);
  for (let i = 0; i < asset.count; i++) {
    const at = 4 * stride * i;
    table.set(asset.means.subarray(3 * i, 3 * i + 3), at);
    table[at + 3] = asset.wide(i, 7);
    let w = asset.wide(i, 3), x = asset.wide(i, 4), y = asset.wide(i, 5), z = asset.wide(i, 6);
    const norm = Math.hypot(w, x, y, z);
    w /= norm, x /= norm, y /= norm, z /= norm;
    half.set([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
              2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
              2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]);
    for (let k = 0; k < 9; k++) half[k] *= Math.exp(asset.wide(i, k % 3));
    const product = (a, b) => half[a] * half[b] + half[a + 1] * half[b + 1] + half[a + 2] * half[b + 2];
    table.set([product(0, 0), product(0, 3), product(0, 6), product(3, 3), product(3, 6), product(6, 6)], at + 4);
    for (let k = 0; k < 3 * asset.coefficients; k++) {
      table[at + 12 + 4 * Math.floor(k / 3) + k % 3] = k < 3 ? asset.wide(i, 8 + k) : asset.narrow(i, k - 3);
    }
  }
  return { table, stride, width, rows };
}

/** Sorts the Gaussians from the farthest to the nearest: a counting sort by depth in 65,536 steps. */
function sorter(asset) {
  const { count, means } = asset, depths = new Float32Array(count), keys = new Uint16Array(count);
  const starts = new Uint32Array(65537), order = new Uint32Array(count);
  return ([x, y, z]) => {
    let nearest = Infinity, farthest = -Infinity;
    for (let i = 0; i < count; i++) {
      const depth = depths[i] = x * means[3 * i] + y * means[3 * i + 1] + z * means[3 * i + 2];
      if (depth < nearest) nearest = depth;
      if (depth > farthest) farthest = depth;
    }
    const steps = 65535 / (farthest - nearest || 1);
    starts.fill(0);
    for (let i = 0; i < count; i++) {
      keys[i] = (farthest - depths[i]) * steps;
      starts[keys[i] + 1]++;
    }
    for (let key = 0; key < 65536; key++) starts[key + 1] += starts[key];
    for (let i = 0; i < count; i++) order[starts[keys[i]]++] = i;
    return order;
  };
}

// --- drawing ---------------------------------------------------------------------------------------------------------

const SPLAT_VERTEX = ({ stride, width, coefficients }) => `#version 300 es
precision highp float; precision highp int; precision highp sampler2D;
${CONSTANTS}
uniform sampler2D table;
uniform mat3 rotation;  // world to camera: x right, y down, z forward
uniform vec3 eye;
uniform vec2 size;  // px
uniform float focal;  // px
layout(location = 0) in uint index;
out vec2 offset;  // from the centre, in standard deviations
flat out vec4 colour;
vec4 texel(int i) {
  int n = int(index) * ${stride} + i;
  return texelFetch(table, ivec2(n % ${width}, n / ${width}), 0);
}
void main() {
  gl_Position = vec4(0, 0, 2, 1);  // Beyond what is drawn.
  vec4 mean = texel(0), a = texel(1), b = texel(2);
  vec3 position = rotation * (mean.xyz - eye);
  if (position.z <= NEAR || mean.w < MIN_ALPHA) return;
  vec2 limit = (1.0 + WIDENING) * 0.5 * size / focal, slope = clamp(position.xy / position.z, -limit, limit);
  float scale = focal / position.z;
  mat3 covariance = rotation * mat3(a.x, a.y, a.z, a.y, a.w, b.x, a.z, b.x, b.y) * transpose(rotation);
  vec3 across = scale * vec3(1, 0, -slope.x), down = scale * vec3(0, 1, -slope.y);
  float xx = dot(across, covariance * across) + BLUR_PX2, yy = dot(down, covariance * down) + BLUR_PX2;
  float xy = dot(across, covariance * down), lean = 0.5 * (xx - yy), span = length(vec2(lean, xy));
  float major = 0.5 * (xx + yy) + span, minor = (xx * yy - xy * xy) / major;
  if (!(minor > 0.0)) return;
  vec2 axis = span > 0.0 ? normalize(lean > 0.0 ? vec2(lean + span, xy) : vec2(xy, span - lean)) : vec2(1, 0);
  vec2 corner = 2.0 * vec2(gl_VertexID & 1, gl_VertexID >> 1) - 1.0;
  offset = corner * sqrt(2.0 * log(mean.w / MIN_ALPHA));
  vec2 pixel = focal * position.xy / position.z + offset.x * sqrt(major) * axis
    + offset.y * sqrt(minor) * vec2(-axis.y, axis.x);
  gl_Position = vec4(2.0 * pixel / size * vec2(1, -1), 0, 1);
  vec3 rgb = vec3(0.5) + 0.28209479 * texel(3).rgb;
#if ${coefficients} > 1
  vec3 d = normalize(mean.xyz - eye), s = d * d;
  rgb += 0.48860251 * (-d.y * texel(4).rgb + d.z * texel(5).rgb - d.x * texel(6).rgb);
#endif
#if ${coefficients} > 4
  rgb += 1.09254843 * (d.x * d.y * texel(7).rgb - d.y * d.z * texel(8).rgb - d.x * d.z * texel(10).rgb)
    + 0.31539157 * (2.0 * s.z - s.x - s.y) * texel(9).rgb + 0.54627422 * (s.x - s.y) * texel(11).rgb;
#endif
#if ${coefficients} > 9
  rgb += 0.59004359 * (-d.y * (3.0 * s.x - s.y) * texel(12).rgb - d.x * (s.x - 3.0 * s.y) * texel(18).rgb)
    + 2.89061144 * d.x * d.y * d.z * texel(13).rgb + 1.44530572 * d.z * (s.x - s.y) * texel(17).rgb
    - 0.45704579 * (4.0 * s.z - s.x - s.y) * (d.y * texel(14).rgb + d.x * texel(16).rgb)
    + 0.37317633 * d.z * (2.0 * s.z - 3.0 * s.x - 3.0 * s.y) * texel(15).rgb;
#endif
  colour = vec4(max(rgb, 0.0), mean.w);
}`;
const SPLAT_FRAGMENT = `#version 300 es
precision highp float;
${CONSTANTS}
in vec2 offset;
flat in vec4 colour;
out vec4 premultiplied;
void main() {
  float alpha = min(MAX_ALPHA, colour.a * exp(-0.5 * dot(offset, offset)));
  if (alpha < MIN_ALPHA) discard;
  premultiplied = vec4(colour.rgb * alpha, alpha);
}`;
const SCREEN_VERTEX = `#version 300 es
void main() { gl_Position = vec4(4 * (gl_VertexID & 1) - 1, 4 * (gl_VertexID >> 1) - 1, 0, 1); }`;
const SCREEN_FRAGMENT = `#version 300 es
precision highp float; precision highp sampler2D;
uniform sampler2D picture;
uniform vec3 background;
out vec4 pixel;
void main() {
  vec4 front = texelFetch(picture, ivec2(gl_FragCoord.xy), 0);
  pixel = vec4(front.rgb + (1.0 - front.a) * background, 1);
}`;

function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
  return { made, at: (name) => gl.getUniformLocation(made, name) };
}

function texture(gl) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  return made;
}

/** Returns draw(camera, background). Blends in half floats where supported, because 8 bits show bands. */
function painter(gl, asset) {
  const precise = gl.getExtension("EXT_color_buffer_float");
  const widest = gl.getParameter(gl.MAX_TEXTURE_SIZE), layout = texels(asset, Math.min(4096, widest));
  if (layout.rows > widest) throw new Error(`${asset.count} Gaussians do not fit into its textures.`);
  const splats = program(gl, SPLAT_VERTEX({ ...layout, coefficients: asset.coefficients }), SPLAT_FRAGMENT);
  const screen = program(gl, SCREEN_VERTEX, SCREEN_FRAGMENT);
  const table = texture(gl);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, layout.width, layout.rows, 0, gl.RGBA, gl.FLOAT, layout.table);
  const picture = texture(gl), buffer = gl.createFramebuffer(), order = gl.createBuffer(), sort = sorter(asset);
  gl.bindFramebuffer(gl.FRAMEBUFFER, buffer);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, picture, 0);
  gl.bindBuffer(gl.ARRAY_BUFFER, order);
  gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
  gl.vertexAttribDivisor(0, 1);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  let sortedFor = "", size = "";
  return (camera, background) => {
    const { width, height } = gl.canvas, forward = camera.rotation.slice(6);
    gl.viewport(0, 0, width, height);
    if (size !== (size = `${width} ${height}`)) {
      gl.bindTexture(gl.TEXTURE_2D, picture);
      gl.texImage2D(gl.TEXTURE_2D, 0, precise ? gl.RGBA16F : gl.RGBA8, width, height, 0, gl.RGBA,
                    precise ? gl.HALF_FLOAT : gl.UNSIGNED_BYTE, null);
    }
    if (sortedFor !== (sortedFor = forward.join())) {
      gl.bufferData(gl.ARRAY_BUFFER, sort(forward), gl.DYNAMIC_DRAW);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, buffer);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.useProgram(splats.made);
    gl.bindTexture(gl.TEXTURE_2D, table);
    gl.uniformMatrix3fv(splats.at("rotation"), true, camera.rotation);
    gl.uniform3fv(splats.at("eye"), camera.eye);
    gl.uniform2f(splats.at("size"), width, height);
    gl.uniform1f(splats.at("focal"), camera.focal * height);
    gl.enable(gl.BLEND);
    gl.enableVertexAttribArray(0);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, asset.count);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.useProgram(screen.made);
    gl.bindTexture(gl.TEXTURE_2D, picture);
    gl.uniform3fv(screen.at("background"), background);
    gl.disable(gl.BLEND);
    gl.disableVertexAttribArray(0);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  };
}
