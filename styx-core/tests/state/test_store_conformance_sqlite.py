from styx.testing.store_conformance import StoreConformance


class TestSqlite(StoreConformance):
    opener = "styx.state.sqlite:open_store"
