// Light or dark: what the visitor chose last, else what the system says. Set before anything is painted.
(function () {
  const apply = (dark) => document.body.classList.toggle("dark", dark);
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("wavalign-theme"); } catch { return null; } };
  const wanted = () => (stored() ? stored() === "dark" : system.matches);
  const start = () => { apply(wanted()); document.documentElement.lang = "en"; };
  if (document.body) start(); else document.addEventListener("DOMContentLoaded", start);
  system.addEventListener("change", () => apply(wanted()));
  window.wavalignTheme = () => {
    const dark = !document.body.classList.contains("dark");
    try { localStorage.setItem("wavalign-theme", dark ? "dark" : "light"); } catch { /* private window */ }
    apply(dark);
  };
})();
