"""The line between one worker and a server is cut, in one of two ways, and mended."""

# Within the delivery time-out of 3 s, and beyond the session of 6 s.
CUT_S = (2.0, 8.0)


def from_kafka(scene):
    """The group gives its partitions to others, if it takes long enough."""
    cut(scene, scene.site.kafka_lines)


def from_redis(scene):
    """Nobody should notice: a worker goes on without it."""
    cut(scene, scene.site.redis_lines)


def cut(scene, lines):
    line = lines[scene.any_worker().seat]
    cut_s, way = scene.chance.choice(CUT_S), scene.chance.choice(("hold", "refuse"))
    scene.told.variant += f", {way} {cut_s:g} s"
    scene.began()
    {"hold": line.hold, "refuse": line.refuse}[way]()
    try:
        scene.watch(cut_s)
        if cut_s == max(CUT_S):
            scene.serving("while cut")
    finally:
        line.mend()
    scene.healed()
    scene.serving("mended")


KINDS = {
    "worker cut from Kafka": from_kafka,
    "worker cut from Redis": from_redis,
}
