"""L2: which addresses a list written by a stranger may make this machine connect to."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

#: The only addresses of IPv6 that were ever given to the public (RFC 4291 section 2.4).
_UNICAST: Final = IPv6Network("2000::/3")
#: IPv6 addresses whose last 32 bits are the IPv4 address that is reached (RFC 6052).
_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Tell whether packets to this numeric IP address leave for the public internet, as IANA's registries say.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, NAT64) is judged by that.
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else None)
        if inner is None:
            return ip in _UNICAST and ip.is_global
        ip = inner
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
