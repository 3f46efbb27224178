// Moves the camera around the asset: on its own until the user takes over by mouse, touch or keys.

const FOV_Y = 40 * Math.PI / 180;  // As in dreamsplat's turntables.
const TURN_SPEED = 20 * Math.PI / 180;  // rad/s
const MARGIN = 1.2;  // Room around the object when the page chooses the distance.

/** Azimuth 0 faces the object's front (-y) and grows clockwise as seen from +z; radians. */
function cameraAt(azimuth, elevation, distance, centre) {
  const [sa, ca, se, ce] = [Math.sin(azimuth), Math.cos(azimuth), Math.sin(elevation), Math.cos(elevation)];
  const outward = [-ce * sa, -ce * ca, se];
  return {
    rotation: [ca, -sa, 0, -se * sa, -se * ca, -ce, ...outward.map((v) => -v)],  // right, down, forward
    eye: centre.map((v, k) => v + distance * outward[k]),
    focal: 0.5 / Math.tan(FOV_Y / 2),  // heights of the picture
  };
}

function main() {
  const element = (id) => document.getElementById(id), canvas = element("view"), root = document.documentElement;
  const about = JSON.parse(element("about").textContent), asset = decode(about, element("data").textContent);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
  if (!gl) throw new Error("it needs WebGL2.");
  let draw = painter(gl, asset), view = {}, turning = true, waiting = false, last = 0;

  /** The view that the address selects, such as #azimuth=30&elevation=15&distance=3&background=ffffff. */
  function start() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const number = (name, otherwise) => (asked.get(name) && isFinite(asked.get(name)) ? +asked.get(name) : otherwise);
    view = {
      azimuth: number("azimuth", 0) * Math.PI / 180,
      elevation: number("elevation", 15) * Math.PI / 180,
      distance: number("distance", 0),  // 0: far enough to see everything.
      background: /^[0-9a-f]{6}$/i.test(asked.get("background")) ? asked.get("background") : null,
    };
    if (["light", "dark"].includes(asked.get("background"))) root.dataset.theme = asked.get("background");
    turning = !calm && !asked.has("azimuth") && !asked.has("elevation");
    root.classList.toggle("touched", !turning);
    wake();
  }

  function fitted() {
    const narrow = Math.atan(Math.tan(FOV_Y / 2) * Math.min(1, canvas.width / canvas.height));
    return MARGIN * about.radius / Math.sin(narrow);
  }

  function wake() {
    if (!waiting) requestAnimationFrame(frame);
    waiting = true;
  }

  function frame(now) {
    waiting = false;
    if (turning) view.azimuth += TURN_SPEED * Math.min(0.1, (now - last) / 1000);
    last = now;
    const density = Math.min(2, devicePixelRatio || 1);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * density));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * density));
    const hex = view.background || getComputedStyle(root).getPropertyValue("--behind").trim().slice(1);
    const background = [0, 2, 4].map((k) => parseInt(hex.slice(k, k + 2), 16) / 255);
    const camera = cameraAt(view.azimuth, view.elevation, view.distance || fitted(), about.centre);
    if (!gl.isContextLost()) draw(camera, background);
    if (turning) wake();
  }

  function turn(right, up) {
    turning = false;
    root.classList.add("touched");
    view.azimuth += right;
    view.elevation = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, view.elevation + up));
    wake();
  }

  function zoom(factor) {
    turn(0, 0);
    const distance = (view.distance || fitted()) * factor;
    view.distance = Math.max(0.1 * about.radius, Math.min(20 * about.radius, distance));
  }

  const touches = new Map(), spread = () => {
    const [a, b] = [...touches.values()];
    return Math.hypot(a.x - b.x, a.y - b.y) || 1;
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    touches.set(event.pointerId, { x: event.clientX, y: event.clientY });
    turn(0, 0);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId), now = { x: event.clientX, y: event.clientY };
    if (!before) return;
    const apart = touches.size === 2 && spread();
    touches.set(event.pointerId, now);
    if (apart) zoom(apart / spread());
    else turn(0.008 * (now.x - before.x), 0.008 * (now.y - before.y));
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => touches.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(0.0015 * event.deltaY * (event.deltaMode ? 20 : 1)));
  }, { passive: false });
  canvas.addEventListener("dblclick", start);
  const step = Math.PI / 24, keys = {
    ArrowLeft: () => turn(-step, 0), ArrowRight: () => turn(step, 0),
    ArrowUp: () => turn(0, step), ArrowDown: () => turn(0, -step),
    "+": () => zoom(0.9), "=": () => zoom(0.9), "-": () => zoom(1 / 0.9), Home: start,
  };
  addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  element("theme").addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    view.background = null;
    wake();
  });
  addEventListener("resize", wake);
  addEventListener("hashchange", start);
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => {
    draw = painter(gl, asset);
    wake();
  });
  start();
}

try {
  main();
} catch (error) {
  document.getElementById("problem").textContent = `This browser cannot show the asset: ${error.message}`;
}
