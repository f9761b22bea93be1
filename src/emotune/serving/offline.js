"use strict";
// The engine of an offline page: the model runs in a worker, or in the page where the browser allows no worker.
const engine = (() => {
  const PARTS = ["settings", "runtime", "wasm", "graph"];
  const packed = id => document.getElementById(id).textContent;
  const failure = ({message, hint, status}) =>
    Object.assign(new Error(message), {hint: hint ?? "", status: status ?? 500});
  // the policy of the page allows addresses of scripts from here alone
  const trusted = globalThis.trustedTypes?.createPolicy("emotune", {createScriptURL: url => url});
  const line = document.createElement("p");
  Object.assign(line, {className: "quiet", role: "status"});
  const say = share => { line.textContent = `Unpacking the model: ${Math.round(100 * share)} %`; };

  // Both kinds of `ask` answer: open(parts), predict(body).
  const inWorker = url => {
    const worker = new Worker(url), waiting = new Map();
    let last = 0;
    const broken = new Promise((_, reject) => {
      worker.onerror = event => { event.preventDefault(); reject(failure({message: event.message || "no worker"})); };
    });
    broken.catch(() => {}); // it is reported by those who wait
    worker.onmessage = ({data: {id, value, error, share}}) => {
      if (share !== undefined) return say(share);
      const {resolve, reject} = waiting.get(id);
      waiting.delete(id);
      return error ? reject(failure(error)) : resolve(value);
    };
    return (method, content, signal) => {
      const id = last += 1;
      const answer = new Promise((resolve, reject) => {
        waiting.set(id, {resolve, reject});
        signal?.addEventListener("abort", () => {
          worker.postMessage({id, method: "cancel"});
          reject(signal.reason);
        }, {once: true});
        worker.postMessage({id, method, content});
      });
      return Promise.race([answer, broken]);
    };
  };
  const inPage = async url => {
    await new Promise((resolve, reject) => {
      const onerror = () => reject(failure({message: "the browser does not run the script of the model"}));
      document.head.append(Object.assign(document.createElement("script"), {src: url, onload: resolve, onerror}));
    });
    const shown = () => new Promise(resolve => { setTimeout(resolve); });
    let model;
    return async (method, content, signal) => {
      if (method === "open") {
        model = await openModel(content, say);
        return model.models();
      }
      return model.predict(content, async () => {
        await shown();
        signal?.throwIfAborted();
      });
    };
  };

  const start = async () => {
    document.getElementById("messages").append(line);
    say(0);
    const parts = Object.fromEntries(PARTS.map(id => [id, packed(`packed-${id}`)]));
    const address = URL.createObjectURL(new Blob([packed("engine-source")], {type: "text/javascript"}));
    const url = trusted?.createScriptURL(address) ?? address;
    try {
      const ask = inWorker(url);
      return [ask, await ask("open", parts)];
    } catch {
      const ask = await inPage(url);
      return [ask, await ask("open", parts)];
    } finally {
      line.remove();
    }
  };
  let started = null;
  const opened = () => started ??= start().then(found => {
    PARTS.forEach(id => document.getElementById(`packed-${id}`).remove()); // their memory is needed no more
    return found;
  }, error => {
    started = null; // it may be tried again
    throw failure(error);
  });
  return {
    about: "Texts never leave this machine: the model is in this file.",
    docs: null,
    maxTexts: 64,
    models: async () => (await opened())[1].models,
    predict: async (body, signal) => {
      const [ask] = await opened();
      signal?.throwIfAborted();
      return ask("predict", body, signal);
    },
  };
})();
