"""PROTOCOL §10's mutants: what each breaks, how it is made, and which test must fail under it.

Those that lose an event, and the last ones, are not on the protocol's list: V1, V4 and V7 would have no mutant without
these, some are what our own way of loading and of reading inputs could get wrong, some what approvers and rule-pushers
may do, some what a notice must not do, and some what one record of many denials could leave out.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from tests.mutants import made


class Mutant(NamedTuple):
    """One mistake.

    Attributes:
        name: the protocol's, in brackets where in the product if it is made in several places.
        breaks: the invariant.
        made: patches the product while it is open.
        killed_by: node id of a test; of a parametrized one, all or one.
        real: that test needs a real broker or Redis.
    """

    name: str
    breaks: str
    made: Callable[[], AbstractContextManager[Any]]
    killed_by: str
    real: bool = False


CORE, CLIENT = "tests/unit/core", "tests/unit/client"
WINDOWS = f"{CORE}/test_window_semantics.py"
NEEDED = "tests/simulation/test_each_part_is_needed.py"
PUBLISHES = f"{NEEDED}::test_whatever_becomes_of_publishes_history_is_right_and_goes_on"
SIGNED = "tests/unit/signing/test_signed.py"
HEARD = "tests/simulation/test_hearing.py"
DEFERRED = "tests/simulation/test_deferred.py"
RUNS, REMEMBERED = f"{CORE}/test_denials.py", "tests/simulation/test_denials.py::test_all_of_a_run_are_remembered"
LOG = "tests/contract/test_log_contract.py"
STORE = (
    "tests/contract/test_state_contract.py::"
    "test_a_refused_move_changes_nothing_and_says_where_the_store_stands[{}--its epoch goes back]"
)

MUTANTS = (
    Mutant(
        "no partition check",
        "V6",
        made.no_partition_check,
        f"{CORE}/test_intake.py::TestRejects::test_a_record_outside_its_lanes_partition",
    ),
    Mutant(
        "no claim",
        "V9",
        made.no_claim,
        f"{NEEDED}::test_what_a_former_owner_decides_once_its_successor_is_ready_is_void",
    ),
    Mutant("no rollback", "V3", made.no_rollback, PUBLISHES),
    Mutant("no resync after an error", "V9", made.no_resync, PUBLISHES),
    Mutant(
        "read_committed",
        "V9",
        made.read_committed,
        "tests/real/test_kafka_log.py::test_an_open_transaction_of_another_producer_hides_nothing",
        real=True,
    ),
    Mutant(
        "last + 1 instead of covers",
        "V5",
        made.last_plus_one,
        f"{CLIENT}/test_client_enforcer.py::TestNotObeyed::test_an_approve_that_leaves_a_hole_in_the_covers",
    ),
    Mutant(
        "head from the first record",
        "V6",
        made.head_from_the_first_record,
        f"{CLIENT}/test_client_following.py::test_reading_starts_at_the_checkpoint_and_not_at_the_first_record_seen",
    ),
    Mutant(
        "lazy end offset",
        "V9",
        made.lazy_end_offset,
        f"{CLIENT}/test_client_following.py::test_the_position_is_known_before_the_first_intent_is_published",
    ),
    Mutant(
        "reset to latest",
        "V5",
        made.reset_to_latest,
        f"{LOG}::TestReader::test_a_position_outside_of_the_log_is_not_jumped_from[kafka-1]",
        real=True,
    ),
    Mutant(
        "default batch.size",
        "V9",
        made.default_batch_size,
        f"{LOG}::TestWriter::test_records_that_fit_alone_fit_however_many_are_handed_over_at_once[kafka]",
        real=True,
    ),
    Mutant(
        "window interval's wrong end",
        "V3",
        made.wrong_end_of_the_interval,
        f"{WINDOWS}::TestSums::test_a_missing_measure_makes_it_unknown_while_it_is_inside",
    ),
    Mutant(
        "window edge exclusive",
        "V3",
        made.exclusive_edge,
        f"{WINDOWS}::TestSpan::test_exactly_the_timespan_ago_counts_and_a_millisecond_more_does_not",
    ),
    Mutant(
        "window edge exclusive (whole runs)",
        "V3",
        made.exclusive_edge,
        f"{HEARD}::test_what_happened_exactly_a_timespan_ago_counts",
    ),
    Mutant(
        "current intent not counted",
        "V3",
        made.current_intent_not_counted,
        f"{WINDOWS}::TestTheJudgedIntent::test_the_one_that_would_make_more_is_denied",
    ),
    Mutant(
        "replay after eviction",
        "V2",
        made.evicted_is_forgotten,
        f"{NEEDED}::test_a_copy_is_rejected_though_its_id_has_left_memory",
    ),
    Mutant(
        "nonce ignored",
        "V2",
        made.nonce_ignored,
        f"{CLIENT}/test_client_enforcer.py::TestNotObeyed::test_an_approve_with_a_wrong[enforcer_nonce]",
    ),
    Mutant(
        "CreateTime accepted",
        "V3",
        made.create_time_accepted,
        "tests/real/test_kafka_log.py::test_a_producers_own_time_is_no_append_time",
        real=True,
    ),
    Mutant(
        "the newest event is lost by a crash",
        "V3",
        made.newest_event_lost_by_a_crash,
        f"{HEARD}::test_what_happened_right_before_a_crash_counts",
    ),
    Mutant(
        "stalled table consumer unnoticed",
        "V8",
        made.stalled_consumer_unnoticed,
        f"{NEEDED}::test_a_table_that_no_longer_arrives_denies_after_a_second_if_it_has_gone_on",
    ),
    Mutant("older writer overwrites Redis", "V3", made.older_writer_overwrites_redis, STORE.format("redis"), real=True),
    Mutant(
        "older writer overwrites Redis (memory store)",
        "V3",
        made.older_writer_overwrites_memory,
        STORE.format("memory"),
    ),
    Mutant(
        "signature over the wrong bytes",
        "V6",
        made.mac_over_the_wrong_bytes,
        f"{SIGNED}::test_no_mutation_of_an_input_is_taken",
    ),
    Mutant(
        "signature over the wrong bytes (decisions)",
        "V6",
        made.leaf_of_the_wrong_bytes,
        f"{SIGNED}::test_no_mutation_of_a_decision_is_taken",
    ),
    Mutant(
        "hold approved twice",
        "V2",
        made.hold_stays_open,
        f"{CORE}/test_intake.py::TestApprovals::test_a_hold_is_approved_once",
    ),
    Mutant("a fact that was read is not recorded", "V1", made.fact_not_recorded, PUBLISHES),
    Mutant(
        "an approval never runs out",
        "V4",
        made.approval_never_runs_out,
        f"{CLIENT}/test_client_enforcer.py::TestUse::test_an_approval_runs_out_at_the_deadline_however_long_it_is_valid",
    ),
    Mutant(
        "what a forked process tried is not told",
        "V4",
        made.forks_are_not_heard,
        f"{CLIENT}/test_client_misuse.py::test_a_loop_in_a_forked_process_is_told_once",
    ),
    Mutant(
        "the caller's arguments run",
        "V7",
        made.callers_arguments_run,
        f"{CLIENT}/test_client_guard.py::TestWhatRuns::test_an_argument_changed_between_approval_and_run_changes_nothing",
    ),
    Mutant(
        "the store's head speaks for units that wait",
        "V3",
        made.store_speaks_for_units_that_wait,
        f"{DEFERRED}::test_the_store_stays_where_it_is_until_every_unit_has_taken_in_its_records",
    ),
    Mutant(
        "a record is taken in twice",
        "V3",
        made.taken_in_twice,
        f"{CORE}/test_denials_units.py::test_what_a_units_base_holds_already_is_not_taken_in_again",
    ),
    Mutant(
        "a snapshot of lost records is believed",
        "V1",
        made.snapshot_of_lost_records,
        "tests/simulation/test_simulation.py::test_what_a_long_run_once_found_is_mended[940]",
    ),
    Mutant(
        "what was answered before is forgotten",
        "V9",
        made.answered_before_forgotten,
        f"{CORE}/test_intake.py::TestApprovals::test_two_rules_that_fire_in_turn_are_answered_once_each",
    ),
    Mutant(
        "a value answered for any class",
        "V6",
        made.answer_for_any_class,
        f"{CORE}/test_provenance.py::TestAnswers::test_not_for_another_class_of_action",
    ),
    Mutant(
        "unsigned rules believed",
        "V6",
        made.unsigned_rules_believed,
        "tests/unit/signing/test_rules_signed.py::test_nothing_else_is",
    ),
    Mutant(
        "nonrepudiable unasked",
        "V6",
        made.nonrepudiable_unasked,
        "tests/unit/signing/test_nonrepudiable.py::"
        "test_an_intent_for_a_marked_action_without_a_signature_is_refused_with_the_reason",
    ),
    Mutant(
        "a notice is believed from anybody",
        "V6",
        made.notice_from_anybody,
        f"{CLIENT}/test_client_revoked.py::TestNotObeyed::test_a_former_owners",
    ),
    Mutant(
        "a notice is believed wherever it stands",
        "V6",
        made.notice_anywhere,
        f"{CLIENT}/test_client_revoked.py::TestNotObeyed::test_a_copy_of_an_old_one",
    ),
    Mutant(
        "who was stopped before the claim is not told of",
        "V6",
        made.stopped_before_the_claim,
        "tests/simulation/test_notices.py::test_a_successor_tells_of_those_who_still_are_stopped",
    ),
    Mutant(
        "hashes lead anywhere",
        "V6",
        made.hashes_that_lead_anywhere,
        "tests/simulation/test_signed.py::"
        "test_a_forged_record_that_goes_on_from_the_log_by_its_hashes_is_found_out_at_the_checkpoint[unsigned]",
    ),
    Mutant(
        "hashes believed for good",
        "V6",
        made.hashes_believed_for_good,
        "tests/simulation/test_signed.py::"
        "test_a_forged_record_behind_the_newest_checkpoint_is_void_for_who_loads[skip]",
    ),
    Mutant(
        "a switch believed by its hash",
        "V6",
        made.hashes_of_a_switch_believed,
        "tests/simulation/test_signed.py::test_a_forged_switch_is_believed_by_nobody_whatever_it_holds[None]",
    ),
    Mutant(
        "hashes lead across a resume",
        "V6",
        made.hashes_across_a_resume,
        "tests/simulation/test_signed.py::test_what_was_forged_before_a_true_resume_is_believed_by_nobody",
    ),
    Mutant(
        "a link covers one input",
        "V5",
        made.link_of_one_input,
        f"{CORE}/test_link.py::test_it_goes_on_behind_what_the_verdict_covers[7]",
    ),
    Mutant(
        "the store is known by its offset",
        "V3",
        made.store_known_by_its_offset,
        "tests/unit/test_mover.py::test_a_partition_at_rest_sees_that_the_store_came_back_with_another_record",
    ),
    Mutant(
        "a store that went on is ours",
        "V3",
        made.store_that_went_on_is_ours,
        "tests/unit/test_mover.py::test_a_store_that_stands_at_another_record_is_filled_anew_wherever_that_was[1]",
    ),
    Mutant(
        "a step that arrives late is the one sent after it",
        "V3",
        made.steps_without_a_number,
        "tests/unit/test_mover.py::"
        "test_a_step_that_arrives_late_is_not_taken_for_the_one_that_was_sent_after_it[1-3000-False]",
    ),
    Mutant(
        "names that are lost are not missed",
        "V1",
        made.names_that_are_lost_are_not_missed,
        "tests/simulation/test_simulation.py::test_what_lost_names_once_showed_is_mended[4]",
    ),
    Mutant(
        "anybody empties the store",
        "V3",
        made.store_emptied_by_anybody,
        "tests/unit/test_mover.py::"
        "test_a_former_owner_neither_moves_nor_empties_what_a_later_one_left_and_then_loads_again[5-True]",
    ),
    Mutant(
        "an input position beyond the log is left there",
        "V9",
        made.input_position_left_beyond_the_log,
        "tests/simulation/test_regressions.py::"
        "test_an_input_log_that_was_cut_and_at_once_as_long_again_is_read_on[all were answered]",
    ),
    Mutant(
        "a cut of the input log goes unheard where the log has grown again",
        "V5",
        made.cut_unheard,
        "tests/simulation/test_regiven.py::"
        "test_so_it_does_where_the_log_has_grown_beyond_it_before_anybody_looks",
    ),
    Mutant("a run is not remembered", "V2", made.run_not_remembered, f"{REMEMBERED}[nowhere_else]"),
    Mutant(
        "a run goes on over its own copy",
        "V2",
        made.run_open_to_its_own_copy,
        f"{RUNS}::test_a_copy_inside_of_the_run_is_a_duplicate_and_other_bytes_under_the_id_are_reused",
    ),
    Mutant(
        "a run goes on over its own child",
        "V1",
        made.run_open_to_a_child,
        f"{RUNS}::test_a_child_is_judged_after_its_parents_run",
    ),
    Mutant(
        "chain time stands still inside of a run",
        "V1",
        made.chain_time_of_before_the_run,
        f"{RUNS}::test_chain_time_goes_on_inside_of_the_run_never_back_and_not_by_what_lies_in_the_future",
    ),
    Mutant(
        "a run's last input for each",
        "V5",
        made.last_offset_for_each,
        "tests/simulation/test_audit_denials.py::test_without_a_lie_nothing_is_found_and_each_row_was_recomputed",
    ),
    Mutant("a run waits for one of its units", "V2", made.run_waits_in_one_unit, f"{REMEMBERED}[from_the_log]"),
    Mutant(
        "a run counts as one delta",
        "V9",
        made.run_counts_as_one_delta,
        f"{CORE}/test_denials_units.py::test_ids_count_one_by_one_against_what_a_unit_gets_before_it_is_written_anew",
    ),
)
