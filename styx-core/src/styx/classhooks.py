"""Loaded classes as pluggy plugins: a cloud, or an object store, answers the same hooks as everybody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from styx.driver import CatalogSource, Cloud, Context, MakesTransport, PluginReach, Provisioner, Reach
from styx.plugin import hookimpl

if TYPE_CHECKING:
    from styx.objectstore import ObjectStore
    from styx.transport.base import Transport


class DriverHooks:
    """A loaded driver class answers the driver hooks for its own name, after everybody else had the chance to."""

    def __init__(self, name: str, cls: type[Cloud], instance: Callable[[str, type[Any], Context], Any]) -> None:
        self._name = name
        self._cls = cls
        self._instance = instance

    def _as(self, role: type[Any], cloud: str, context: Context) -> Any:
        fits = cloud == self._name and issubclass(self._cls, role)
        return self._instance(cloud, self._cls, context) if fits else None

    @hookimpl(trylast=True)
    def styx_cloud(self, name: str, context: Context) -> Cloud | None:
        """The driver itself."""
        answer: Cloud | None = self._as(Cloud, name, context)
        return answer

    @hookimpl(trylast=True)
    def styx_catalog(self, cloud: str, context: Context) -> CatalogSource | None:
        """The driver itself, when it is a catalog."""
        answer: CatalogSource | None = self._as(CatalogSource, cloud, context)
        return answer

    @hookimpl(trylast=True)
    def styx_provisioner(self, cloud: str, context: Context) -> Provisioner | None:
        """The driver itself, when it is a provisioner."""
        answer: Provisioner | None = self._as(Provisioner, cloud, context)
        return answer

    @hookimpl(trylast=True)
    def styx_make_transport(self, reach: Reach, context: Context) -> Transport | None:
        """The driver's own way to its nodes, when it has one."""
        if not isinstance(reach, PluginReach):
            return None
        driver: MakesTransport | None = self._as(MakesTransport, reach.cloud, context)
        return driver.transport(reach) if driver is not None else None


class StoreHooks:
    """A loaded object store class answers for its own scheme."""

    def __init__(self, scheme: str, cls: Any, instance: Callable[[str, Any, Context], Any]) -> None:
        self._scheme = scheme
        self._cls = cls
        self._instance = instance

    @hookimpl(trylast=True)
    def styx_store(self, scheme: str, context: Context) -> ObjectStore | None:
        """The store itself."""
        if scheme != self._scheme:
            return None
        made: ObjectStore = self._instance(f"{scheme}://", self._cls, context)
        return made
