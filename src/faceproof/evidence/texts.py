"""The words of overlays, pages and evidence folders, in one place for translation; the verdict's are in ``wording``."""

from __future__ import annotations

from faceproof.results import Verdict

# -- overlay ------------------------------------------------------------------------------------------------------

CURVE_TITLE = "Frame Suspicion Analysis"
BOX_LABEL = "{person}  {score:.2f}"
BOX_UNJUDGED = "{person}  not judged"
BAR = "Frame Suspicion: {score:.2f}"
BAR_NO_FACE = "Frame Suspicion: no face"
BAR_NOT_LOOKED_AT = "Frame Suspicion: not looked at"
BAR_UNJUDGED = "Frame Suspicion: not judged"

# -- page ---------------------------------------------------------------------------------------------------------

LANGUAGE = "en"

PAGE = {
    "title": "Faceproof report: {name}",
    "product": "Faceproof",
    "kind": "Report",
    "skip": "Skip to the verdict",
    "scanned_in": "scanned in {seconds:.1f} s",
    "scene": "The most suspicious frame, at {time}, with the scores of that moment",
    "scene_unjudged": "The frame at {time}",
    "scene_picture": "The picture, with each person’s score",
    "scene_picture_bare": "The picture",
    "scene_alt": "Frame at {time} with a box around every face",
    "scene_picture_alt": "The picture with a box around every face",
    "video_label": "The video itself, with boxes on faces",
    "video_hint": "Save {name} in this page’s folder and it plays here; the timeline then moves through it.",
    "video_warning": "The player shows whatever file of that name lies in this folder; its SHA-256 must be the one below.",
    "people": "People",
    "no_people": "No face was found, so there is nobody to show.",
    "left_out": "{count} more people are not pictured here.",
    "unjudged": "Not judged",
    "unjudged_alt": "The face of {person}",
    "nobody_seen": "nobody who was judged is seen",
    "score": "score {score:.2f}",
    "score_none": "no score",
    "score_meaning": "From 0 to 1. Higher means more like the manipulated faces the detector was trained on.",
    "probability_meaning": "Estimated probability that this face was manipulated, if fakes were as common as in the data "
    "it was calibrated on ({data}).",
    "range": "{low:.2f} to {high:.2f} depending on which frames are looked at",
    "one_face": "one face only, so no range",
    "seen": "seen {span}",
    "faces": "in {count} frames",
    "one_seen": "in 1 frame",
    "best_alt": "{person}, the face that stands for the score",
    "heat_alt": "The same face under its heat",
    "strip": "The most suspicious moments of {person}, each with its heat",
    "moment_alt": "{person} at {time}, score {score:.2f}, under its heat",
    "heat_graph": "Heat is the detector's own map.",
    "heat_unusual": "Heat is the detector's own map, as far as it differs from what genuine faces usually give.",
    "heat_occlusion": "Heat shows how much the score falls when that part of the face is blurred.",
    "heat_limits": "It shows where the detector looked, not what was done there.",
    "heat_low": "none",
    "heat_high": "strong",
    "timeline": "Timeline",
    "timeline_keys": "Click, or focus it and use the arrow keys, Page Up and Page Down, Home and End.",
    "timeline_help": "Each line is one person’s faces, 0 at the bottom, 1 at the top. Dashed: {threshold:.2f}; hatched: "
    "moments above it.",
    "timeline_slider": "Time in the video",
    "lane_alt": "Scores of {person} over time",
    "table": "The same as a table",
    "table_time": "Time",
    "table_caption": "Score by person and time; the highest in each interval",
    "not_seen": "not seen",
    "meaning": "What this means",
    "how_sure": "How sure",
    "how_measured": "How this was measured",
    "cannot_see": "What it cannot see",
    "provenance": "Where the file comes from",
    "provenance_note": "These facts play no part in the score. Absent means absent, not suspicious.",
    "repeat": "Repeat it",
    "repeat_note": "The same file, detector and settings give the same score to three decimals at the same precision.",
    "hints": "On its way here",
    "facts": "File and detector",
    "file": "File",
    "detector": "Detector",
    "weights": "Weights (SHA-256)",
    "spec": "Settings (SHA-256)",
    "run_by": "Run by",
    "run_by_value": "{runtime} at {precision} precision",
    "calibration": "Calibration",
    "calibration_value": "{method}, fitted on {data}",
    "none": "none",
    "aggregation": "From faces to a score",
    "aggregation_value": "{track} over each person, {file} over the file",
    "licence": "Licence of the weights",
    "licence_value": "{weights} ({origin})",
    "frames_asked": "Frames asked for",
    "made": "Made {time} with Faceproof {version}",
    "footer": "A score is evidence, not proof.",
}

MEDIA = {"video": "video", "image": "picture"}

MEANING = {
    Verdict.FAKE: (
        "In at least one person the detector found traces that it knows from swapped, re-enacted or blended faces.",
        "It may be wrong: filters, make-up, heavy compression and odd light can leave similar traces.",
        "It does not say who did it, why, or whether the sound or the story is true.",
    ),
    Verdict.REAL: (
        "In the faces looked at the detector found none of the traces it knows.",
        "That is not proof that the {media} is genuine: a forgery of a kind it does not know would look the same to it.",
        "It says nothing about sound, captions, cuts or context.",
    ),
    Verdict.INCONCLUSIVE: (
        "The faces were looked at, but the evidence does not reach far enough to say either.",
        "Do not read this as a weak yes or a weak no.",
    ),
    Verdict.NOT_ASSESSED: (
        "No face could be judged, so there is no score. This is neither a yes nor a no.",
        "Manipulations that need no face (objects, scenery, sound) are outside of what is looked at here.",
    ),
}

# Rules that a reader may meet; the others are named as the spec names them.
METHODS = {
    "mean": "mean",
    "max": "highest",
    "median": "median",
    "logit_mean": "mean of log-odds",
    "worst_track": "most suspicious person",
}

SURE = {
    "fitted": "The limits between the answers were set so that at most {alarms:.0%} of genuine files count as manipulated "
    "and at most {misses:.0%} of forgeries as without a sign, on {data} ({reals} genuine, {fakes} forged).",
    "bands_differ": "For worse material the range without an answer is wider: {people}.",
    "band_person": "from {low:.2f} to {high:.2f} for {person}",
    "threshold": "Scores above {threshold:.2f} count as signs of manipulation.",
    "band": "Scores from {high:.2f} up count as signs of manipulation, those of {low:.2f} and less as none; in between the "
    "answer is “cannot tell”.",
    "calibrated_alike": "People's scores are calibrated probabilities, fitted on the same.",
    "calibrated": "People's scores are calibrated probabilities (fitted on {data}).",
    "one_scale": "The timeline and the single moments show single faces on the same scale. A person's score is made of all "
    "of them: it can lie well below the peaks.",
    "raw_faces": "The timeline and the single moments show scores of single faces, not yet calibrated. A person's score is "
    "made of all of them and then calibrated: it can lie well below the peaks.",
    "nothing": "{analyzed} of {total} frames were searched for faces.",
    "nothing_picture": "The whole picture was searched for faces.",
    "uncalibrated": "Scores are not calibrated probabilities: 0.80 is more than 0.60, but not “80 %”.",
    "confidence": "Probability of this verdict as calibrated: {confidence:.2f}.",
    "frames": "{analyzed} of {total} frames were looked at.",
    "frames_picture": "The one picture was looked at.",
    "failed": "{count} frames could not be decoded and were left out.",
    "ranges": "A range beside a score shows how much it depends on the choice of frames (the central 90 % over resampled "
    "frames). It is not the detector's error rate.",
    "perhaps_no_face": "{people} may not be a face: the face search is less sure of it than {least:.2f}, as of patterns in "
    "cloth, leaves or walls. It is listed and not judged.",
    "perhaps_no_faces": "{people} may not be faces: the face search is less sure of them than {least:.2f}, as of patterns "
    "in cloth, leaves or walls. They are listed and not judged.",
    "detection": "Only faces of which the face search is at least {least:.2f} sure are judged (median over a person's "
    "pictures; 1 is certain).",
    "side": "Faces are {side:.0f} pixels large (longer side, median); under {least:.0f} this detector does not judge.",
    "side_only": "Faces are {side:.0f} pixels large (longer side, median).",
    "sharpness": "Their sharpness is {sharpness:.0f} (median); under {least:.0f} this detector does not judge.",
    "measured": "Tested on {data}: of {reals} genuine files it called {real_fake} manipulated and {real_real} without a "
    "sign, and left {real_inconclusive} open; of {fakes} forged ones it called {fake_fake} manipulated and {fake_real} "
    "without a sign, and left {fake_inconclusive} open.",
    "measured_here": "Among those like this one ({what}; {reals} genuine, {fakes} forged) the forged one of a pair scored "
    "higher in {pairs:.0f} of 100 pairs (95 % interval {low:.0f} to {high:.0f}; 50 is chance).",
    "measured_weakest": "It was weakest on {what}, where the forged one of a pair scored higher in {pairs:.0f} of 100 pairs "
    "({low:.0f} to {high:.0f}; 50 is chance).",
    "measured_chosen": "The detector was chosen by its scores on these files: expect less elsewhere.",
    "no_card": "No measurement came with this very detector; “faceproof evaluate” makes one on your own files.",
}

LIMITS = (
    "Forgeries of kinds that it was not trained on, above all new ones.",
    "Pictures made from nothing by a generator, unless a face was blended into them.",
    "Manipulated sound, lip movements in themselves, cuts, captions and context.",
    "Traces that compression, screen recording or downscaling have wiped away.",
    "People whose face is never found, is too small or is too blurred.",
)

PROVENANCE = {
    "absent": "absent",
    "sha256": "SHA-256",
    "sha1": "SHA-1",
    "md5": "MD5",
    "size": "Size",
    "bytes": "{count:,} bytes",
    "credentials": "Content credentials (C2PA)",
    "credentials_absent": "absent, as in most files",
    "credentials_valid": "present; signature and content agree",
    "credentials_invalid": "present, but the content or the manifest was changed after signing",
    "credentials_unreadable": "present, but not readable",
    "credentials_not_checked": "not looked for: the reader is not installed (faceproof[evidence])",
    "signer": "Signed by",
    "signed_by": "{signer}{issuer}{when}",
    "trusted": "the signer is on the reader's trust list",
    "untrusted": "the signer is not on the reader's trust list",
    "actions": "Actions stated",
    "generated": "Made by a generator",
    "generated_all": "the credentials say that a generator made it",
    "generated_part": "the credentials say that a generator made part of it",
    "generated_silent": "the credentials do not say so",
    "ingredients": "Made from",
    "problems": "Problems found",
    "exif": "EXIF",
    "xmp": "XMP",
    "container": "Container tags",
    "stream": "Stream {number}",
    "encoders": "Programs named",
    "location": "Place of recording",
    "location_present": "present (not shown here)",
    "no_hints": "no hints of re-encoding found",
}

HINTS = {
    "double_jpeg": "Saved as JPEG before at lower quality and again at about quality {quality} (strength {strength:.2f}).",
    "single_jpeg": "Saved as JPEG at about quality {quality}; no trace of an earlier, lower-quality save (strength "
    "{strength:.2f}).",
    "double_video": "Frame sizes stand out every {period} frames, where the stream has no key frames: a sign of "
    "an earlier encoding with that spacing, not a proof of one.",
    "no_rhythm": "Frame sizes show no trace of an earlier encoding’s key frames. Many second encodings leave none.",
    "edit_list": "Track {track} has an edit list with {count} cuts or a late start: it was trimmed or joined without "
    "encoding it anew.",
    "encoder": "Written by {encoder}: files from cameras rarely name it, files from platforms and converters usually do.",
    "no_creation_time": "No time of recording is stored.",
    "thumbnail": "An embedded preview picture is present.",
}

# -- custody ------------------------------------------------------------------------------------------------------

README = """Evidence made by Faceproof {version} on {time}.

report.html      the report to read; open it in a browser, it needs no network
report.json      the same as data
provenance.json  what the file says about its own origin; plays no part in the score
crops/           the faces shown, as cut from the file (lossless)
heatmaps/        the same faces under their heat, and the heat alone (*.heat.png)
manifest.json    SHA-256 of every file here and of the judged file, detector, settings, time
manifest.sig     signature over manifest.json, when a key was given

Check it:            faceproof verify .
Repeat the scan too: faceproof verify . --rescan --media FILE
"""

VERIFY = {
    "stands": "The evidence stands.",
    "stands_unsigned": "The evidence stands as far as it goes: it is whole, and unsigned.",
    "stands_by": "The evidence stands for whoever holds the key that signed it.",
    "stands_so_far": "What could be checked stands; that the scan comes out the same was not checked.",
    "falls": "The evidence does not stand.",
    "whole": "{count} files are exactly as they were written",
    "missing": "missing: {name}",
    "changed": "changed: {name}",
    "added": "not part of the evidence: {name}",
    "signed": "signed with the key {fingerprint}",
    "signed_known": "signed with the key given, {fingerprint}",
    "unsigned": "not signed: anyone could have written it",
    "bad_signature": "the signature does not fit the manifest",
    "other_key": "signed with another key than the one given: {fingerprint}",
    "unknown_signer": "whose key that is, the signature cannot say: compare it with one you got from the signer (--key)",
    "no_signature_but_key": "a key was given, but the evidence is not signed",
    "media_same": "the file judged is the same",
    "media_differs": "the file given is not the one that was judged",
    "not_repeated": "the scan was not repeated: {why}{remedy}",
    "changed_before": "the evidence was changed, so its numbers are not worth it",
    "rescan_same": "scanned again: the largest difference of any score is {difference:.1e}",
    "rescan_differs": "scanned again: scores differ by up to {difference:.1e}, more than {tolerance:.0e}",
    "rescan_people": "scanned again: other people were found ({before} before, {after} now)",
    "rescan_verdict": "scanned again: the verdict was {before} and is {after} now",
    "other_detector": "the detector installed is not the one of the report ({what} differs)",
    "other_precision": "precision differs ({before} before, {after} now): scores are compared within {tolerance:g}",
}

# -- heat in words ------------------------------------------------------------------------------------------------

HEAT_NONE = "no part of the face stands out"
HEAT_PLACE = "strongest {place}, as you see it"
HEAT_PLACES = (
    ("at the upper left", "at the top", "at the upper right"),
    ("on the left", "in the middle", "on the right"),
    ("at the lower left", "at the bottom", "at the lower right"),
)
