package sms

import "unicode/utf16"

// Lengths of GSM 03.40: a message that needs several segments gives some of
// each to the header that joins them.
const (
	oneSeptets  = 160
	longSeptets = 153
	oneUnits    = 70
	longUnits   = 67
)

// basic is the default alphabet of GSM 03.38 without its escape; extended takes
// two septets for each.
const (
	basic = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
		"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	extended = "\f^{}\\[~]|€"
)

var septets = func() map[rune]int {
	m := make(map[rune]int)
	for _, r := range basic {
		m[r] = 1
	}
	for _, r := range extended {
		m[r] = 2
	}
	return m
}()

// segments is how many a text is sent in. One character outside GSM 7 makes all
// of it UCS-2. What takes two places stands in one segment.
func segments(text string) int {
	width, one, long := septet, oneSeptets, longSeptets
	for _, r := range text {
		if septets[r] == 0 {
			width, one, long = units, oneUnits, longUnits
			break
		}
	}
	total, count, used := 0, 1, 0
	for _, r := range text {
		w := width(r)
		total += w
		if used += w; used > long {
			count, used = count+1, w
		}
	}
	if total <= one {
		return 1
	}
	return count
}

func septet(r rune) int { return septets[r] }

func units(r rune) int { return max(utf16.RuneLen(r), 1) }
