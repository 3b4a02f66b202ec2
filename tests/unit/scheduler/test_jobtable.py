"""Jobs by counter, in blocks."""

from random import Random

import pytest

from zmqtasks.scheduler.core.jobtable import JobTable


class Thing:
    def __init__(self, counter):
        self.counter = counter


def test_it_does_what_a_dict_does():
    random, table, known = Random(1), JobTable(), {}
    for _ in range(3_000):
        counter = random.choice((0, 4_090, 8_180, 2**32 - 700)) + random.randrange(20)
        if random.random() < 0.5:
            things = [Thing(counter + i) for i in range(random.randrange(1, 600))]
            table.add(counter, things)
            known |= {thing.counter: thing for thing in things}
        else:
            thing = random.choice((known.get(counter, Thing(counter)), Thing(counter)))
            assert table.remove(counter, thing) == (known.get(counter) is thing)
            if known.get(counter) is thing:
                known.pop(counter, None)
        assert table.get(counter) is known.get(counter)
    assert len(table) == len(known)
    assert {thing.counter: thing for thing in table} == known
    for counter, thing in known.items():
        assert table.known(counter) is thing
        assert table.remove(counter, thing)
    assert (len(table), list(table), table._blocks) == (0, [], {})


def test_one_more_takes_the_place_of_the_one_before():
    table = JobTable()
    table.put(5, Thing(5))
    newer = table.put(5, Thing(5))
    assert list(table) == [newer]
    with pytest.raises(KeyError):
        table.known(6)
