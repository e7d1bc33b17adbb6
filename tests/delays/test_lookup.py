"""From the text of a source to its data, and one clear message for each that is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_probe import H100, PARTS, START, e2e_ms, write_probe

from harness.delays import resolve_sources
from harness.errors import SpecError, UsageError
from harness.ledger import LedgerWriter
from harness.spec.policy import PolicyAtNfe
from harness.spec.resolve import parse
from harness.spec.timing import Latency

PI05 = "lerobot:pi05?weights=random&dtype=bfloat16"


def latency(source, **given):
    return parse(Latency, {"source": source, **given}, "test")


def resolve(source, policies=("flow",), nfe=(), **given):
    return resolve_sources([latency(source, **given)], policies, nfe)


def write_samples(path, values, **columns):
    """A probe's ledger with chosen samples."""
    writer = LedgerWriter(path)
    writer.append("runs", [{"run_id": "r", "suite": "name: probe", "protocol": "{}", "status": "finished"}])
    row = {"run_id": "r", "node_id": "n", "hardware": "h100-sxm-80gb", "policy_id": "flow", "nfe": 10}
    row |= {"batch_size": 1, "component": "e2e", "started_at": START, **columns}
    writer.append("latency", [{**row, "sample": i, "latency_ms": value} for i, value in enumerate(values)])
    return path


@pytest.mark.parametrize(("text", "ms"), [("180ms", 180), ("0.18s", 180), ("0ms", 0), ("1.5s", 1500)])
def test_a_constant_is_a_duration_for_every_policy(text, ms):
    (source,) = resolve(f"constant:{text}")
    assert source.draw(PolicyAtNfe("anything", 3), "00" * 32, 5).ms == ms
    assert source.name == f"constant:{ms:g}ms"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("constant:-5ms", "negative"),
        ("constant:nanms", "no duration"),
        ("constant:infs", "no duration"),
        ("constant:180", "no duration"),
        ("constant:", "lacks what follows the colon"),
        ("ledgre:x", "Did you mean 'ledger'"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(source, told):
    with pytest.raises(SpecError, match=told):
        latency(source)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"predict_from": "x"}, "predict_from"),
        ({"timing_of": "pi05"}, "nobody's timing"),
        ({"network": "20ms"}, "constant:20ms"),
        ({"sensor": "constant:-1ms"}, "sensor is 'constant:-1ms': .*negative"),
    ],
)
def test_what_does_not_belong_to_a_constant_is_refused(given, told):
    with pytest.raises(SpecError, match=told):
        latency("constant:10ms", **given)


def test_terms_are_added_and_named(tmp_path):
    file = tmp_path / "wifi.txt"
    file.write_text("5\n\n7.5\n")
    (source,) = resolve("constant:100ms", network=f"samples:{file}", sensor="constant:33ms")
    assert source.least_ms(PolicyAtNfe("flow", 10)) == 138
    assert source.name.startswith("constant:100ms+network:wifi.txt#")
    assert source.name.endswith("+sensor:33ms")
    file.write_text("5\n8\n")
    assert resolve("constant:100ms", network=f"samples:{file}")[0].name != source.name.partition("+sensor")[0]


@pytest.mark.parametrize(
    ("content", "told"),
    [("", "empty"), ("5\nfast\n", "line 2: 'fast'"), ("5\n\nnan\n", "line 3: 'nan'"), ("-3\n", "line 1: '-3'")],
)
def test_samples_of_a_file_that_are_no_durations_are_refused(tmp_path, content, told):
    file = tmp_path / "wifi.txt"
    file.write_text(content)
    with pytest.raises(UsageError, match=told):
        resolve("constant:1ms", network=f"samples:{file}")
    with pytest.raises(UsageError, match="cannot be read"):
        resolve("constant:1ms", network=f"samples:{tmp_path}/none.txt")


def test_a_ledgers_samples_keep_their_order_launch_and_energy(tmp_path):
    write_samples(tmp_path / "l", [3.0, 1.0, 2.0], launch=0, energy_j=5.0)
    write_samples(tmp_path / "l", [9.0, 8.0], launch=1)
    (source,) = resolve(f"ledger:{tmp_path / 'l'}")
    samples = source.samples_of(PolicyAtNfe("flow", 10))
    assert [launch.tolist() for launch in samples.launches] == [[3, 1, 2], [9, 8]]
    assert samples.joules[0].tolist() == [5, 5, 5]
    assert np.isnan(samples.joules[1]).all()
    assert source.name.startswith("measured:h100-sxm-80gb#")
    assert source.facts["device"] == "h100-sxm-80gb"


def test_other_samples_have_another_name(tmp_path):
    names = {resolve(f"ledger:{write_samples(tmp_path / str(i), [float(i)])}")[0].name for i in range(1, 4)}
    assert len(names) == 3


def test_a_ledger_of_another_policy_is_refused_unless_its_timing_is_asked_for(tmp_path):
    probe = write_probe(tmp_path / "probe")
    with pytest.raises(UsageError, match=r"no samples of policy 'flow'.*It has: lerobot:pi05.*--latency-as"):
        resolve(f"ledger:{probe}")
    with pytest.raises(UsageError, match=r"no samples of policy 'pi05'.*It has: lerobot:pi05.*--latency-as"):
        resolve(f"ledger:{probe}", timing_of="pi05")
    (source,) = resolve(f"ledger:{probe}", timing_of=PI05, nfe=(1, 10))
    assert f"(timing of {PI05} on flow's actions)" in source.name
    for nfe in (1, 10):
        assert source.draw(PolicyAtNfe("flow", nfe), "00" * 32, 0).ms == pytest.approx(e2e_ms(H100, PARTS, nfe))


@pytest.mark.parametrize(
    ("columns", "nfe", "told"),
    [
        ({}, (1,), "no samples of flow at NFE 1; it has NFE 10"),
        ({"batch_size": 16}, (), "in batches of 16 only"),
        ({"component": "prefix"}, (), "no latency samples"),
    ],
)
def test_a_ledger_of_another_nfe_or_batch_is_refused(tmp_path, columns, nfe, told):
    path = write_samples(tmp_path / "l", [1.0, 2.0], **columns)
    with pytest.raises(UsageError, match=told):
        resolve(f"ledger:{path}", nfe=nfe)


def test_a_ledger_of_several_devices_is_refused(tmp_path):
    write_samples(tmp_path / "l", [1.0])
    write_samples(tmp_path / "l", [1.0], hardware="h200")
    with pytest.raises(UsageError, match=r"several devices \(h100-sxm-80gb, h200\)"):
        resolve(f"ledger:{tmp_path / 'l'}")


def test_a_device_is_its_predicted_band(tmp_path):
    from harness.analysis.predict.anchored import Anchored
    from harness.analysis.predict.prediction import sources
    from harness.analysis.predict.published import load_published
    from harness.ledger import read

    probe = write_probe(tmp_path / "probe")
    found = resolve("device:jetson-agx-orin-64gb", timing_of=PI05, predict_from=str(probe), nfe=(1, 10))
    ledger = read(probe)
    (measured,) = sources(ledger.latency, ledger.counts, ledger.nodes)
    anchored = Anchored(measured, [measured], load_published())
    for source, band, attribute in zip(found, ("low", "mid", "high"), ("low", "likely", "high"), strict=True):
        assert source.facts["band"] == band
        for nfe in (1, 10):
            expected = getattr(anchored.predict("jetson-agx-orin-64gb", nfe), attribute)
            assert source.draw(PolicyAtNfe("flow", nfe), "00" * 32, 0).ms == expected


def test_a_device_that_fails_its_back_test_is_called_so_wherever_its_delays_are_used(tmp_path):
    probe = write_probe(tmp_path / "probe")
    for device, flag in (("dgx-spark-gb10", ", back-test fails"), ("l40s", ", not back-tested")):
        for source in resolve(f"device:{device}", timing_of=PI05, predict_from=str(probe), nfe=(10,)):
            assert source.facts["device"] == f"{device}{flag}"
            assert source.facts["back_test"]


def test_the_name_of_a_prediction_does_not_depend_on_the_nfe_that_were_asked_for(tmp_path):
    few, many = (resolve("device:dgx-spark-gb10", timing_of="pi05", nfe=nfe) for nfe in ((1,), (1, 10)))
    assert [source.name for source in few] == [source.name for source in many]
    with pytest.raises(UsageError, match=r"predicted from.*--device-from.*--latency-as"):
        resolve("device:dgx-spark-gb10")


def test_one_part_of_a_devices_band_can_be_asked_for():
    band = resolve("device:jetson-agx-orin-64gb", timing_of="pi05", nfe=(1,))
    bands = {source.facts["band"]: source for source in band}
    (mid,) = resolve("device:jetson-agx-orin-64gb:mid", timing_of="pi05", nfe=(1,))
    assert mid == bands["mid"]
    with pytest.raises(UsageError, match=r"'middle'.*low, mid, high|'middle'.*mid"):
        resolve("device:jetson-agx-orin-64gb:middle", timing_of="pi05", nfe=(1,))


def test_published_figures_are_constants_by_nfe():
    (source,) = resolve("published:dgx-spark-gb10", timing_of="pi05", nfe=(1, 10))
    drawn = [source.draw(PolicyAtNfe("flow", nfe), "00" * 32, 0).ms for nfe in (1, 10)]
    assert drawn == [798, 1299]
    assert "timing of pi05 on flow's actions" in source.name


@pytest.mark.parametrize(
    ("value", "given", "told"),
    [
        ("dgx-spark", {"timing_of": "pi05"}, "Did you mean 'dgx-spark-gb10'"),
        ("dgx-spark-gb10", {}, "Nothing is published of 'flow'"),
        ("dgx-spark-gb10", {"timing_of": "pi05", "nfe": (3,)}, "at NFE 3; there is NFE 1, 10"),
        ("dgx-spark-gb10:ONNX", {"timing_of": "pi05"}, "with ONNX on dgx-spark-gb10. There is: pi05 with LeRobot"),
    ],
)
def test_what_nobody_published_is_refused_with_what_there_is(value, given, told):
    with pytest.raises(UsageError, match=told):
        resolve(f"published:{value}", **given)


def test_one_source_twice_is_refused():
    with pytest.raises(UsageError, match=r"'constant:100ms' is given twice"):
        resolve_sources([latency("constant:100ms"), latency("constant:0.1s")], ["flow"])
