"""How deep and how wide data from the network may be. The same in both encodings."""

from math import isfinite

# Containers inside each other in a body, the outermost counted.
DEPTH_MAX = 32
# What a client may put in one list or map. Servers may send longer ones, bounded by the frame.
ARRAY_ITEMS_MAX = 1024
MAP_ITEMS_MAX = 256


def excess(value: object, depth_max: int, array_items_max: int, map_items_max: int) -> str | None:
    """What in decoded data goes over a limit, or None.

    Level by level and without recursion, since repr, == and copy of deep data raise RecursionError.

    Args:
        value: dicts, lists and scalars.
        depth_max: containers inside each other.
        array_items_max: items in a list.
        map_items_max: entries in a dict.
    """
    level = [value]
    for _ in range(depth_max + 1):
        below: list[object] = []
        containers = False
        for item in level:
            if type(item) is dict:
                containers = True
                if len(item) > map_items_max:
                    return f"a map holds more than {map_items_max} entries"
                below += item.values()
            elif type(item) is list:
                containers = True
                if len(item) > array_items_max:
                    return f"an array holds more than {array_items_max} items"
                below += item
            elif type(item) is float and not isfinite(item):
                return "NaN and Infinity are not allowed"
        if not containers:
            return None
        level = below
    return f"nested deeper than {depth_max} levels"
