"""What runs on the nodes: shipped as one zipapp under the name `styx_ray_node`.

Standard library only and Python >= 3.8, except `launch` and `link`, which import Ray and run under its interpreter.
Modules import each other relatively, because the package has another name inside Styx than on the nodes.
"""
