"""What `EndsQueries` asks of its client, and when: futures are scripted, time is the test's."""

import threading
from concurrent.futures import Future
from itertools import pairwise
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from harness_stream.adapters.kafka import ends, leaders
from harness_stream.core.limits import FRESH_MS_MAX

DEAD, ALIVE, OTHER = ("t", 0), ("t", 1), ("u", 0)
LEADERS = {DEAD: 0, ALIVE: 1, OTHER: 1}
TURN_MS, ASK_MS = 10, 100
LIBRDKAFKA_FORGETS_MS = 900_000  # its default of `metadata.max.age.ms`


def failed(code):
    return KafkaException(KafkaError(code))


class Admin:
    """A client of a cluster in which some brokers are silent, and some partitions may be led by nobody."""

    made, now_ms = [], 0

    def __init__(self, _settings):
        self.silent, self.led, self.moved, self.knows_nobody = set(), dict(LEADERS), set(), False
        self.open, self.looked_up, self.asked = [], [], []
        Admin.made.append(self)

    def list_topics(self, topic, _timeout_s):
        self.looked_up.append((Admin.now_ms, topic))
        if self.knows_nobody:
            raise failed(KafkaError._TIMED_OUT)
        led = {n: SimpleNamespace(id=n, leader=leader) for (name, n), leader in self.led.items() if name == topic}
        return SimpleNamespace(brokers={0: "", 1: ""}, topics={topic: SimpleNamespace(partitions=led)})

    def list_offsets(self, places, **_):
        names = [(place.topic, place.partition) for place in places]
        assert len({self.led[name] for name in names}) == 1, "one silent leader would hold up the others"
        self.asked += names
        answers = {place: Future() for place in places}
        for name, future in zip(names, answers.values(), strict=True):
            if self.led[name] in self.silent:
                self.open.append((Admin.now_ms + FRESH_MS_MAX, future))
            elif name in self.moved:
                future.set_exception(failed(KafkaError.NOT_LEADER_FOR_PARTITION))
            else:
                future.set_result(SimpleNamespace(offset=7))
        return answers

    def give_up(self):
        for due_ms, future in [waits for waits in self.open if waits[0] <= Admin.now_ms]:
            self.open.remove((due_ms, future))
            future.set_exception(failed(KafkaError._TIMED_OUT))


class World:
    """A worker's turns: each 10 ms, with a question each 100 ms."""

    def __init__(self):
        self.queries, self.answers = ends.EndsQueries("nowhere:1"), []

    @property
    def admin(self):
        return Admin.made[-1]

    def turn(self, names):
        Admin.now_ms += TURN_MS
        for admin in Admin.made:
            admin.give_up()
        if Admin.now_ms % ASK_MS == 0:
            self.queries.ask(names, Admin.now_ms)
        for thread in threading.enumerate():
            if thread.name == "leaders":
                thread.join()
        self.answers += [((e.topic, e.partition), Admin.now_ms, e.asked_at_ms) for e in self.queries.collect()]

    def run(self, for_ms, *names):
        self.answers, until_ms = [], Admin.now_ms + for_ms
        while Admin.now_ms < until_ms:
            self.turn(names)
        return self

    def longest_gap_ms(self, name, since_ms):
        times = [since_ms, *(at_ms for answered, at_ms, _ in self.answers if answered == name), Admin.now_ms]
        return max(later - earlier for earlier, later in pairwise(times))


@pytest.fixture
def world(monkeypatch):
    Admin.made, Admin.now_ms = [], 0
    monkeypatch.setattr(ends, "AdminClient", Admin)
    monkeypatch.setattr(ends.settings, "admin", lambda where: where)
    return World()


def test_leaders_are_asked_for_once_and_then_each_question_goes_to_them(world):
    world.run(1_000, ALIVE, OTHER)
    assert sorted(topic for _, topic in world.admin.looked_up) == ["t", "u"]
    assert {asked_at_ms for _, _, asked_at_ms in world.answers} == set(range(ASK_MS, 1_001, ASK_MS))


def test_nothing_is_asked_of_who_has_no_leader_and_they_are_looked_for_until_there_is_one(world):
    world.admin.led[DEAD] = -1
    world.run(1_000, DEAD, ALIVE)
    assert DEAD not in world.admin.asked
    assert world.longest_gap_ms(ALIVE, ASK_MS) <= ASK_MS
    assert len(world.admin.looked_up) == 1_000 // ASK_MS
    world.admin.led[DEAD] = 1
    world.run(3 * ASK_MS, DEAD)
    assert [name for name, _, _ in world.answers].count(DEAD) >= 2
    assert len(Admin.made) == 1, "a broker was heard all the time"


def test_one_silent_leader_keeps_nobody_else_from_fresh_answers(world):
    world.run(500, DEAD, ALIVE, OTHER)
    world.admin.silent, since_ms = {0}, Admin.now_ms
    world.run(2_500, DEAD, ALIVE, OTHER)
    assert len(Admin.made) == 1
    assert len(world.admin.looked_up) > 2, "another leader is looked for"
    for name in (ALIVE, OTHER):
        assert world.longest_gap_ms(name, since_ms) <= ASK_MS
    assert all(at_ms - asked_at_ms <= TURN_MS for _, at_ms, asked_at_ms in world.answers)
    assert {name for name, _, _ in world.answers} == {ALIVE, OTHER}


def test_where_a_leader_has_moved_the_whole_topic_is_learned_anew_and_no_other(world):
    """Within RENEW_MS of the last client; later, another client is made, which knows no leader at all."""
    world.run(500, DEAD, ALIVE, OTHER)
    world.admin.looked_up.clear()
    world.admin.moved = {DEAD}
    world.run(ASK_MS, DEAD)
    world.admin.moved = set()
    world.run(300, ALIVE, OTHER)
    assert [topic for _, topic in world.admin.looked_up] == ["t"]


def test_a_failure_of_a_query_that_was_forgotten_counts_all_the_same(world):
    world.run(500, DEAD)
    world.admin.silent = {0}
    world.run(ASK_MS, DEAD)
    world.queries.forget(*DEAD)
    for _, future in world.admin.open:
        future.set_exception(failed(KafkaError.NOT_LEADER_FOR_PARTITION))
    world.admin.open.clear()
    asked = len(world.admin.asked)
    world.queries.ask([DEAD], Admin.now_ms)
    assert len(world.admin.asked) == asked, "librdkafka has dropped the leaders: asked now, it might crash"


def test_who_has_lost_its_leader_by_the_newest_metadata_is_not_asked(world):
    world.run(500, DEAD, ALIVE)
    world.admin.led[DEAD] = -1
    world.queries._leaders.want("t", Admin.now_ms)
    world.run(ASK_MS, ALIVE)
    world.admin.asked.clear()
    world.run(300, DEAD, ALIVE)
    assert set(world.admin.asked) == {ALIVE}


def test_what_was_under_way_when_leaders_were_dropped_is_not_believed(world, monkeypatch):
    world.run(500, DEAD)
    world.admin.silent = {0}
    world.queries.ask([DEAD], Admin.now_ms)
    world.queries._leaders.want("t", Admin.now_ms)
    world.queries._leaders._open["t"].thread.join()
    for _, future in world.admin.open:
        future.set_exception(failed(KafkaError.NOT_LEADER_FOR_PARTITION))
    world.admin.open.clear()
    free, learn, asked = threading.Event(), world.admin.list_topics, len(world.admin.asked)
    monkeypatch.setattr(world.admin, "list_topics", lambda *words: free.wait(5) and learn(*words))
    world.queries.ask([DEAD], Admin.now_ms)
    world.queries.collect()
    assert len(world.admin.asked) == asked, "the answer is older than librdkafka's dropping them"
    free.set()
    world.queries._leaders._open["t"].thread.join()
    world.queries.collect()
    assert len(world.admin.asked) > asked


def test_silence_makes_nobody_forget_leaders(world):
    world.run(500, ALIVE)
    world.admin.knows_nobody = True
    world.run(ASK_MS, ("t", 5))
    world.run(300, ALIVE)
    assert world.longest_gap_ms(ALIVE, Admin.now_ms - 200) <= ASK_MS


def test_a_silent_leader_has_a_bounded_number_of_queries_and_takes_nobody_elses_place(world):
    for partition in range(2, 80):
        world.admin.led["t", partition] = 0
    dead = [("t", partition) for partition in range(2, 80)]
    world.run(500, ALIVE, *dead)
    world.admin.silent = {0}
    world.run(1_500, ALIVE, *dead)
    assert len(world.queries._open) <= len(dead) * ends.OPEN_MAX
    assert world.longest_gap_ms(ALIVE, Admin.now_ms - 1_000) <= ASK_MS


def test_closing_waits_for_whoever_holds_the_client(world, monkeypatch):
    free = threading.Event()
    monkeypatch.setattr(world.admin, "list_topics", lambda *_: free.wait(5))
    world.queries.ask([ALIVE], 1)
    [question] = world.queries._leaders._open.values()
    threading.Timer(0.05, free.set).start()
    world.queries.close()
    assert not question.thread.is_alive()


def test_where_no_thread_can_be_made_nothing_is_known_and_nothing_ends(world, monkeypatch):
    def refused(_self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refused)
    world.run(500, ALIVE)
    assert world.answers == []


def test_leaders_are_learned_anew_before_librdkafka_forgets_them(world):
    assert 2 * leaders.LEADERS_MS < LIBRDKAFKA_FORGETS_MS
    world.run(500, ALIVE)
    assert len(world.admin.looked_up) == 1
    Admin.now_ms += leaders.LEADERS_MS
    asked = len(world.admin.asked)
    world.queries.ask([ALIVE], Admin.now_ms)
    assert len(world.admin.asked) == asked
    world.run(300, ALIVE)
    assert len(world.admin.looked_up) == 2
    assert world.answers


def test_where_nobody_tells_the_leaders_another_client_is_made(world):
    world.run(500, ALIVE)
    world.admin.knows_nobody = True
    world.queries._leaders.forget("t")
    world.run(ends.SILENCE_MS_MAX + 3 * ASK_MS, ALIVE)
    assert len(Admin.made) == 2
    world.run(300, ALIVE)
    assert world.answers


def test_a_topic_that_nobody_knows_is_no_silence(world):
    world.run(2 * ends.SILENCE_MS_MAX, ("none", 0))
    assert len(Admin.made) == 1
    assert world.answers == []


def test_what_goes_wrong_while_leaders_are_learned_is_raised_where_somebody_hears(world, monkeypatch):
    monkeypatch.setattr(world.admin, "list_topics", lambda *_: {}["no such topic"])
    with pytest.raises(KeyError):
        world.run(ASK_MS, ALIVE)
