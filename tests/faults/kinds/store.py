"""Faults of Redis, which is a cache: it is emptied, killed, or comes back with what was true some time ago."""

import shutil

import redis

AWAY_S = (0.0, 2.0)
OLDER_S = 3.0  # so much is missing at least; a dump that was kept may be minutes old, or of a realm that is gone


def flushed(scene):
    """FLUSHALL."""
    with redis.Redis.from_url(scene.site.redis.url) as client:
        client.flushall()
    scene.serving("emptied")


def killed(scene):
    """SIGKILL and a start with what its append-only file holds."""
    away_s = scene.chance.choice(AWAY_S)
    scene.told.variant = f"away {away_s:g} s"
    scene.site.redis.kill()
    scene.serving("without it")
    scene.watch(away_s)
    scene.site.redis.start()
    scene.healed()
    scene.serving("with it again")


def restored(scene):
    """Its files are replaced by older ones: some seconds old, or those of a fault before this one."""
    site, kept = scene.site, scene.site.folder / "redis" / "kept"
    fresh = not kept.exists() or scene.chance.random() < 0.5
    scene.told.variant = "some seconds old" if fresh else "of an earlier fault"
    if fresh:
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(site.redis_data, kept)
        scene.watch(OLDER_S)
    scene.began()
    site.redis.kill()
    shutil.rmtree(site.redis_data)
    shutil.copytree(kept, site.redis_data)
    site.redis.start()
    scene.serving("on older data")


KINDS = {
    "Redis emptied (FLUSHALL)": flushed,
    "Redis killed (SIGKILL) and started": killed,
    "Redis restored from an older dump": restored,
}
