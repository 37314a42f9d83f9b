from tests.servers.redis import redis_servers

__all__ = ["redis_servers"]
