"""One cluster's API server, through the official client: contexts, credentials, requests, permissions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from styx.plugin import CloudError, Context, CredentialsError, DriverError, Scope
from styx_k8s.faults import NoConnection, refusal

IN_CLUSTER: Final = "in-cluster"
"""Name of the one context that a pod with a service account has."""
ACCOUNT_FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_S: Final = 5.0
READ_S: Final = 25.0
"""For one answer: the engine gives a call 60 s."""
SILENT_S: Final = 60.0
"""A server that has not answered for so long is given up: the next context, or a report."""
RBAC: Final = Path(__file__).with_name("rbac.yaml")
NEEDED: Final[tuple[tuple[str, str], ...]] = (
    ("pods", "create get list delete patch"),
    ("pods/exec", "create get"),
    ("pods/portforward", "create get"),
    ("services", "create get list delete patch"),
    ("events", "list"),
    ("persistentvolumeclaims", "create get list delete"),
)
"""What the driver does in its namespace; `rbac.yaml` grants exactly this, and the nodes' listing besides."""


class Contexts:
    """The contexts that may be used, and a client for each. Nothing is read before it is asked for."""

    def __init__(self, context: Context, kubeconfig: str | None, allowed: Sequence[str] | None) -> None:
        self._context = context
        self._allowed = allowed
        given = kubeconfig or context.secrets("KUBECONFIG")
        paths = [Path(part).expanduser() for part in (given or "").split(os.pathsep) if part]
        self.files = paths or [context.user_home / ".kube" / "config"]
        self._inside = not given and not self.files[0].exists() and (ACCOUNT_FOLDER / "token").exists()

    def all(self) -> tuple[dict[str, str], str | None]:
        """Every context, allowed or not, with its namespace; and the current one. Clusters may still be in any of them.

        Raises:
            CredentialsError: There is no kubeconfig, or it is damaged.
        """
        if self._inside:
            return {IN_CLUSTER: (ACCOUNT_FOLDER / "namespace").read_text(encoding="utf-8").strip()}, IN_CLUSTER
        from kubernetes.config import ConfigException, list_kube_config_contexts
        from yaml import YAMLError

        present = [path for path in self.files if path.exists()]
        if not present:
            raise CredentialsError(
                "there is no kubeconfig", hint="set KUBECONFIG, or write ~/.kube/config with your cluster's own tool"
            )
        try:
            contexts, current = list_kube_config_contexts(os.pathsep.join(map(str, present)))
        except (ConfigException, YAMLError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            where = ", ".join(map(str, present))
            raise CredentialsError(
                f"the kubeconfig {where} can't be read: {' '.join(str(error).split())}",
                hint="try `kubectl config view`",
            ) from None
        found = {one["name"]: one["context"].get("namespace") or "default" for one in contexts}
        return found, current["name"] if current else None

    def named(self) -> list[str]:
        """The contexts that may be used for something new.

        Raises:
            CredentialsError: As `all`, or an allowed context is not in the kubeconfig.
        """
        found, current = self.all()
        if self._allowed is None:
            wanted = [current] if current else list(found)
        else:
            wanted = list(found) if "all" in self._allowed else list(self._allowed)
        missing = [name for name in wanted if name not in found]
        if missing:
            raise CredentialsError(
                f"the kubeconfig has no context called {', '.join(missing)}",
                hint=f"it has {', '.join(sorted(found)) or 'none'}; see `allowed_contexts` of the config",
            )
        return wanted

    def client(self, name: str) -> tuple[Any, str]:
        """A fresh ApiClient of the official library, and the context's namespace.

        Raises:
            DriverError: The context is not in the kubeconfig any more.
            CredentialsError: Its user's entry can't be used.
        """
        from kubernetes.client import ApiClient, Configuration
        from kubernetes.config import ConfigException, new_client_from_config
        from kubernetes.config.incluster_config import InClusterConfigLoader

        found, _ = self.all()
        if name not in found:
            raise DriverError(
                f"the context {name} is not in the kubeconfig any more",
                hint="put it back, or `styx down --purge` forgets clusters there",
            )
        settings = type.__call__(Configuration)
        try:
            if self._inside:
                token, cert = (str(ACCOUNT_FOLDER / file) for file in ("token", "ca.crt"))
                keys = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
                environ = {key: self._context.secrets(key) for key in keys}
                InClusterConfigLoader(token, cert, environ=environ).load_and_set(settings)
                return ApiClient(configuration=settings), found[name]
            files = os.pathsep.join(str(path) for path in self.files if path.exists())
            client = new_client_from_config(files, name, persist_config=False, client_configuration=settings)
            return client, found[name]
        except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            raise CredentialsError(
                f"context {name}: its entry in the kubeconfig can't be used: {_first_line(error)}",
                scope=Scope.REGION,
                hint=f"try `kubectl --context {name} get pods`",
            ) from None


class Api:
    """Requests to one context. Safe to use from several threads."""

    def __init__(self, client: Any, context: str, namespace: str, clock: Callable[[], float]) -> None:
        self.client, self.context, self.namespace = client, context, namespace
        self.server = str(client.configuration.host)
        self._clock = clock
        self._silent_since: float | None = None

    def headers(self, path: str = "", method: str = "GET") -> dict[str, str]:
        """Those that prove who we are; tokens of exec plugins are refreshed here."""
        found: dict[str, str] = {"User-Agent": "styx"}
        kinds = list(self.client.configuration.auth_settings())
        self.client.update_params_for_auth(found, [], kinds, path, method, None)
        return found

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One request, its JSON answer.

        Raises:
            NoConnection: No answer.
            CloudError: The server's refusal.
        """
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {**self.headers(path, method), "Accept": "application/json", "Content-Type": kind}
        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        try:  # the client's own pool: its generated calls differ from release to release
            reply = self.client.rest_client.pool_manager.request(
                method,
                url,
                body=json.dumps(body) if body is not None else None,
                headers=headers,
                timeout=Timeout(connect=CONNECT_S, read=READ_S),
                retries=False,  # the engine retries; urllib3 would sleep
            )
        except (HTTPError, OSError) as error:
            raise self._silence(_first_line(error)) from None
        self._silent_since = None
        if not 200 <= reply.status < 300:
            raise refusal(self.context, reply.status, reply.data, _retry_after(reply.headers))
        answer = json.loads(reply.data or b"{}")
        return answer if isinstance(answer, dict) else {}

    def _silence(self, words: str) -> CloudError:
        """Patience at first; a server that stays silent is given up, so that nothing waits for a stale context."""
        message = f"context {self.context}: the API server at {self.server} does not answer: {words}"
        now = self._clock()
        self._silent_since = since = now if self._silent_since is None else self._silent_since
        if now - since < SILENT_S:
            return NoConnection(message)
        return DriverError(message, scope=Scope.REGION, hint="is the cluster, or the VPN to it, up?")

    def labelled(self, kind: str, selector: str) -> list[dict[str, Any]]:
        """Objects of a kind in the namespace that carry these labels."""
        return self.items(self.of(kind), labelSelector=selector)

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """All objects of a listing, page after page."""
        found: list[dict[str, Any]] = []
        more = ""
        while True:
            page = self.call("GET", path, query={**query, "limit": "500", **({"continue": more} if more else {})})
            found += page.get("items") or ()
            more = str((page.get("metadata") or {}).get("continue") or "")
            if not more:
                return found

    def of(self, kind: str, name: str = "") -> str:
        """The path of a kind, or of one object, in the namespace."""
        group = "apis/networking.k8s.io/v1" if kind == "ingresses" else "api/v1"
        return f"/{group}/namespaces/{quote(self.namespace)}/{kind}" + (f"/{quote(name)}" if name else "")

    def delete(self, kind: str, name: str, uid: str | None = None) -> None:
        """Ask for an object's end, and of what it owns. Absent, or another of that name, is a success."""
        options: dict[str, Any] = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self.call("DELETE", self.of(kind, name), body=options)
        except CloudError as error:
            if error.vendor.code != "NotFound" and (error.vendor.code != "Conflict" or uid is None):
                raise

    def require_permissions(self) -> None:
        """Ask for all that is needed.

        Raises:
            CredentialsError: Names what is not granted, in the order of the table, and the manifest that grants it.
        """
        asked = [(verb, resource) for resource, verbs in NEEDED for verb in verbs.split()]
        with ThreadPoolExecutor(8, "k8s-access") as pool:
            granted = list(pool.map(lambda pair: self._may(*pair), asked))
        missing = [" ".join(pair) for pair, yes in zip(asked, granted, strict=True) if not yes]
        if missing:
            raise CredentialsError(
                f"context {self.context}, namespace {self.namespace}: not allowed to {', '.join(missing)}",
                scope=Scope.REGION,
                hint=f"let an administrator run: kubectl -n {self.namespace} apply -f {RBAC}",
            )

    def _may(self, verb: str, resource: str) -> bool:
        kind, _, sub = resource.partition("/")
        asked = {"namespace": self.namespace, "verb": verb, "resource": kind, "subresource": sub}
        group = "authorization.k8s.io/v1"
        review = {"apiVersion": group, "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
        answer = self.call("POST", f"/apis/{group}/selfsubjectaccessreviews", body=review)
        return bool((answer.get("status") or {}).get("allowed"))


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(0.5, min(float(headers.get("Retry-After", 1.0)), 60.0))
    except ValueError:
        return 1.0


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
