"""How many bytes the units of memory and disks are. The Hub and disk makers count in tens, computers in twos."""

MEBIBYTE, GIBIBYTE = 2**20, 2**30
GIGABYTE = 10**9
