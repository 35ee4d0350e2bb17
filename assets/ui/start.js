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
  const { default: init } = await import("/signalbox.js");
  await init({ module_or_path: "/signalbox_bg.wasm" });
  start?.remove();
} catch (error) {
  console.error(error);
  if (start) start.textContent = `The page could not start: ${error}. Reload it; if that does not help, the browser may be too old for WebAssembly.`;
}
