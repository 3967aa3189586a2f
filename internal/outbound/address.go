package outbound

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// block is a range of addresses and why it is not dialled.
type block struct {
	prefix netip.Prefix
	what   string
}

// never gives what no list of networks opens.
func never() []block {
	return []block{
		{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
		{netip.MustParsePrefix("::/128"), "unspecified"},
		{netip.MustParsePrefix("169.254.0.0/16"), "link-local, where clouds keep their metadata"},
		{netip.MustParsePrefix("fe80::/10"), "link-local"},
		{netip.MustParsePrefix("fd00:ec2::/32"), "of a cloud's metadata"},
		{netip.MustParsePrefix("168.63.129.16/32"), "of a cloud's metadata"},
		{netip.MustParsePrefix("100.100.100.200/32"), "of a cloud's metadata"},
		{netip.MustParsePrefix("192.0.0.192/32"), "of a cloud's metadata"},
		{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
		{netip.MustParsePrefix("ff00::/8"), "multicast"},
		{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	}
}

// unlessAllowed gives what is dialled only where the operator's networks hold it.
func unlessAllowed() []block {
	return []block{
		{netip.MustParsePrefix("10.0.0.0/8"), "private"},
		{netip.MustParsePrefix("172.16.0.0/12"), "private"},
		{netip.MustParsePrefix("192.168.0.0/16"), "private"},
		{netip.MustParsePrefix("fc00::/7"), "private"},
		{netip.MustParsePrefix("fec0::/10"), "private"},
		{netip.MustParsePrefix("100.64.0.0/10"), "shared by a provider's customers"},
		{netip.MustParsePrefix("64:ff9b:1::/48"), "of a local translation"},
		{netip.MustParsePrefix("2001::/23"), "of a tunnel or another special purpose"},
		{netip.MustParsePrefix("192.0.0.0/24"), "of a special purpose"},
		{netip.MustParsePrefix("192.88.99.0/24"), "of a special purpose"},
		{netip.MustParsePrefix("198.18.0.0/15"), "for measurements"},
		{netip.MustParsePrefix("192.0.2.0/24"), "for documents"},
		{netip.MustParsePrefix("198.51.100.0/24"), "for documents"},
		{netip.MustParsePrefix("203.0.113.0/24"), "for documents"},
		{netip.MustParsePrefix("2001:db8::/32"), "for documents"},
		{netip.MustParsePrefix("3fff::/20"), "for documents"},
		{netip.MustParsePrefix("100::/64"), "discarded"},
		{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	}
}

// guard knows which addresses may be dialled.
type guard struct {
	never, unlessAllowed []block
	allow                []netip.Prefix
	// loopback says that URLs come from the operator, who may mean this machine.
	loopback bool
}

func newGuard(allow []netip.Prefix, loopback bool) guard {
	g := guard{never: never(), unlessAllowed: unlessAllowed(), loopback: loopback}
	for _, p := range allow {
		g.allow = append(g.allow, p.Masked())
	}
	return g
}

// check judges the address that is dialled for a URL's host.
func (g guard) check(host string, given netip.Addr) error {
	addr := unwrap(given)
	switch {
	case !addr.IsValid():
		return fmt.Errorf("%w: an address that cannot be read", ErrRefused)
	case addr.Zone() != "":
		return fmt.Errorf("%w: %s has a zone", ErrRefused, given)
	case addr.IsLoopback():
		if g.loopback && isLoopback(host) {
			return nil
		}
		return fmt.Errorf("%w: %s is this machine", ErrRefused, given)
	}
	if what := find(g.never, addr); what != "" {
		return fmt.Errorf("%w: %s is %s", ErrRefused, given, what)
	}
	if g.allowed(addr) {
		return nil
	}
	if what := find(g.unlessAllowed, addr); what != "" {
		return fmt.Errorf("%w: %s is %s, and its network is not allowed", ErrRefused, given, what)
	}
	return nil
}

func (g guard) allowed(addr netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func find(blocks []block, addr netip.Addr) string {
	for _, b := range blocks {
		if b.prefix.Contains(addr) {
			return b.what
		}
	}
	return ""
}

// unwrap gives the IPv4 address that an IPv6 address stands for: mapped
// (RFC 4291 §2.5.5.2) and compatible (§2.5.5.1), translated by NAT64 (RFC 6052 §2.1),
// 6to4 (RFC 3056 §2).
func unwrap(addr netip.Addr) netip.Addr {
	if addr.Is4In6() {
		return addr.Unmap()
	}
	if !addr.Is6() || addr.IsUnspecified() || addr.IsLoopback() {
		return addr
	}
	b := addr.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(addr), netip.MustParsePrefix("::/96").Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:]))
	case netip.MustParsePrefix("2002::/16").Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return addr
}

// isLoopback reports whether a URL's host says itself that it is this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// looksNumeric reports whether a host that is not an address is read as one by some
// resolvers all the same: 2130706433, 0x7f.1, 127.1.
func looksNumeric(host string) bool {
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := strings.ToLower(labels[len(labels)-1])
	digits := "0123456789"
	if rest, ok := strings.CutPrefix(last, "0x"); ok {
		last, digits = rest, "0123456789abcdef"
	}
	return strings.Trim(last, digits) == ""
}
