"""What tests of several rooms stand on: a tiny world, tiny encoders, a store of moving squares."""

pytest_plugins = ["tests.fixtures.agents", "tests.fixtures.encoders"]
