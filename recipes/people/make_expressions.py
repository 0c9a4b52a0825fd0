"""ICT-FaceKit's expressions -> displacements of MediaPipe's landmarks, as avgen ships them.

`python recipes/people/make_expressions.py ict_facekit.npz face_landmarker.task`

ICT-FaceKit's neutral head (MIT; https://github.com/USC-ICT/ICT-FaceKit) is drawn flat, MediaPipe
finds its landmarks in the drawing, and every landmark takes the displacements of the vertices under
it. Only the expressions that talking heads are moved by are kept. The first argument is an .npz of
ICT-FaceKit's model: V [N, 3], F [M, 3], M [M] (material of a triangle), mats, expr [57, N, 3] and
expr_names.
"""

import argparse
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from avgen.corpora.portraits.basis import BASIS, EYES, INNER_LIPS
from avgen.corpora.portraits.faces import Landmarker

SIDE = 768  # pixels of the drawing
WIDTH_CM = 34.0  # of the head that it shows, in ICT-FaceKit's unit
HIDDEN = ("Occlusion", "Blend", "Lacrimal", "Lashes")  # materials that lie over the face
SKIN = "Face"
NEAREST = 3  # vertices that a landmark is the mean of
DEPTH_CM = 12.0  # behind the frontmost vertex: what lies further back is not the face's front
JAW_SHARE = 0.25  # of the jaw's largest drop: what drops less is of the upper lip
# MediaPipe's points around the mouth, by lip: rows from the inner to the outer border.
UPPER = (
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 61, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    291, 76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306, 62, 183, 42, 41, 38, 12, 268, 271, 272,
    407, 292,
)  # fmt: skip
LOWER = (
    95, 88, 178, 87, 14, 317, 402, 318, 324, 146, 91, 181, 84, 17, 314, 405, 321, 375, 77, 90, 180,
    85, 16, 315, 404, 320, 307, 96, 89, 179, 86, 15, 316, 403, 319, 325,
)  # fmt: skip
KEPT = (
    "jawOpen", "jawForward", "jawLeft", "jawRight", "mouthClose", "mouthFunnel", "mouthPucker",
    "mouthLeft", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", *(
        f"{name}_{side}" for name in (
            "mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthPress",
            "mouthLowerDown", "mouthUpperUp", "cheekSquint", "noseSneer", "browDown",
            "browInnerUp", "browOuterUp", "eyeBlink", "eyeSquint", "eyeWide",
        ) for side in "LR"
    ),
)  # fmt: skip


def main() -> None:
    """Write avgen/corpora/portraits/expressions.npz."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="ICT-FaceKit's model as .npz")
    parser.add_argument("landmarker", type=Path, help="MediaPipe's face_landmarker.task")
    parser.add_argument("--out", type=Path, default=BASIS)
    args = parser.parse_args()
    head = np.load(args.model)
    names = [str(name) for name in head["expr_names"]]
    vertices = head["V"].astype(np.float64)
    points = project(vertices)
    drawing = draw(points, vertices, head)
    with closing(Landmarker(args.landmarker)) as landmarker:
        found = landmarker(drawing)
    assert len(found) == 1, "MediaPipe finds one face in the drawing"
    weights, under = nearest_vertices(points, head, found[0].points, names)
    offsets = np.stack([head["expr"][names.index(name)] for name in KEPT])[:, under]
    moved = (offsets * weights[..., None]).sum(2)  # [K, 478, 3]
    neutral = (vertices[under] * weights[..., None]).sum(1)
    corners = neutral[[EYES[0][0], EYES[1][0]]]
    unit = np.linalg.norm(corners[1] - corners[0])
    np.savez_compressed(
        args.out,
        names=np.array(KEPT),
        offsets=(moved / unit).astype(np.float16),
        neutral=((neutral - corners.mean(0)) / unit).astype(np.float16),
        triangles=tessellation().astype(np.int16),
    )
    jaw = moved[KEPT.index("jawOpen")] / unit
    lips = jaw[INNER_LIPS[0][5], 1] - jaw[INNER_LIPS[1][5], 1]
    print(f"{args.out}: {args.out.stat().st_size} bytes; jawOpen parts the lips by {lips:.3f}")


def project(vertices: np.ndarray) -> np.ndarray:
    """Vertices [N, 3] in pixels, x to the right, y down, z towards the viewer."""
    scale = SIDE / WIDTH_CM
    flat = vertices * [scale, -scale, scale]
    return flat + np.array([SIDE / 2, SIDE / 2, 0])


def draw(points: np.ndarray, vertices: np.ndarray, head: np.lib.npyio.NpzFile) -> np.ndarray:
    """The head, far triangles first, uint8 [SIDE, SIDE, 3]: skin, white eyes, dark irises."""
    materials = [str(name) for name in head["mats"]]
    seen = [not any(word in name for word in HIDDEN) for name in materials]
    triangles = head["F"][np.array(seen)[head["M"]]]
    material = head["M"][np.array(seen)[head["M"]]]
    colours = np.full((len(materials), 3), (217, 166, 140))
    for index, name in enumerate(materials):
        for word, colour in (("Sclera", 242), ("Iris", 40), ("Teeth", 235)):
            if word in name:
                colours[index] = colour
    irises = [index for index, name in enumerate(materials) if "Iris" in name]
    sides = vertices[triangles]
    normals = np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    light = 0.4 + 0.6 * np.clip(normals @ [0.3, 0.5, 0.8], 0, 1)
    shades = (colours[material] * light[:, None]).clip(0, 255)
    depth = points[triangles][:, :, 2].mean(1) + 2.0 * np.isin(material, irises)
    order = np.argsort(depth)
    picture = np.full((SIDE, SIDE, 3), 190, np.uint8)
    corners = np.round(points[:, :2] * 16).astype(np.int32)
    for index in order[normals[order, 2] > 0]:
        cv2.fillConvexPoly(picture, corners[triangles[index]], shades[index].tolist(), shift=4)
    return picture


def nearest_vertices(
    points: np.ndarray, head: np.lib.npyio.NpzFile, landmarks: np.ndarray, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [478, NEAREST] and indices of the vertices under each landmark.

    A landmark of a lip takes vertices of that lip: those that the jaw moves, or does not.
    """
    materials = [str(name) for name in head["mats"]]
    skin = np.zeros(len(points), bool)
    faces = np.array([SKIN in name for name in materials])[head["M"]]
    skin[head["F"][faces].ravel()] = True
    front = skin & (points[:, 2] > points[:, 2].max() - DEPTH_CM * SIDE / WIDTH_CM)
    drop = -head["expr"][names.index("jawOpen")][:, 1]
    lower = drop > JAW_SHARE * drop.max()
    weights, under = np.zeros((478, NEAREST)), np.zeros((478, NEAREST), int)
    for index in range(478):
        allowed = front & ~lower if index in UPPER else front & lower if index in LOWER else front
        distance = np.linalg.norm(points[:, :2] - landmarks[index, :2], axis=1)
        distance[~allowed] = np.inf
        under[index] = np.argsort(distance)[:NEAREST]
        weights[index] = 1 / (distance[under[index]] + 0.5)
    return weights / weights.sum(1, keepdims=True), under


def tessellation() -> np.ndarray:
    """MediaPipe's triangles [852, 3] of a face, which leave out eyes and mouth."""
    from mediapipe.tasks.python.vision import FaceLandmarksConnections

    edges = FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION
    return np.array([[edge.start for edge in edges[i : i + 3]] for i in range(0, len(edges), 3)])


if __name__ == "__main__":
    main()
