// Deletes from the list, without opening the result first.
import { call, complain } from "./api.js";

for (const button of document.querySelectorAll(".rows [data-delete]")) {
  button.addEventListener("click", async () => {
    if (!window.confirm(`Delete ${button.dataset.name}, its result and all evidence for good?`)) return;
    try {
      await call("DELETE", `/v1/jobs/${button.dataset.delete}`);
      const row = button.closest("li"), next = row.nextElementSibling ?? row.previousElementSibling;
      document.getElementById("said").textContent = `${button.dataset.name} is deleted.`;
      row.remove();
      next?.querySelector("[data-delete]").focus();
    } catch (error) { complain(error); }
  });
}
