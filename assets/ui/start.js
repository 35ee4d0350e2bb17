// Starts the page. A file of its own, so that the server's content security policy can forbid inline scripts.
const theme = (() => {
  try {
    return localStorage.getItem("signalbox.theme");
  } catch {
    return null;
  }
})();
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;

const start = document.getElementById("start");
try {
  const { default: init } = await import("./signalbox.js");
  const wasm = new URL("signalbox_bg.wasm", import.meta.url);
  if (document.documentElement.hasAttribute("data-alone")) {
    // There is no server part. Once the page has its own code, nothing connects to anywhere any more.
    const code = await (await fetch(wasm)).arrayBuffer();
    const policy = document.createElement("meta");
    policy.httpEquiv = "Content-Security-Policy";
    policy.content = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; form-action 'none'";
    document.head.append(policy);
    await init({ module_or_path: code });
  } else {
    await init({ module_or_path: wasm });
  }
  start?.remove();
} catch (error) {
  console.error(error);
  if (start) start.textContent = `The page could not start: ${error}. Reload it; if that does not help, the browser may be too old for WebAssembly.`;
}
