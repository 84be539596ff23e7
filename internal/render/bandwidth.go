package render

import (
	"cmp"
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Annotations on pods that limit their traffic. Those of qos.projectcalico.org count before those of kubernetes.io.
const (
	annotationIngressLimit    = "kubernetes.io/ingress-bandwidth"
	annotationEgressLimit     = "kubernetes.io/egress-bandwidth"
	annotationIngressRate     = "qos.projectcalico.org/ingressBandwidth"
	annotationIngressBurst    = "qos.projectcalico.org/ingressBurst"
	annotationIngressPeak     = "qos.projectcalico.org/ingressPeakrate"
	annotationIngressMinBurst = "qos.projectcalico.org/ingressMinburst"
	annotationEgressRate      = "qos.projectcalico.org/egressBandwidth"
	annotationEgressBurst     = "qos.projectcalico.org/egressBurst"
	annotationEgressPeak      = "qos.projectcalico.org/egressPeakrate"
	annotationEgressMinBurst  = "qos.projectcalico.org/egressMinburst"
)

// Bounds of the annotations' values and what holds when no burst is set: those of users of Calico, bits per second, bits, and for the least
// burst bytes.
const (
	minRate, maxRate         = 1_000, 1_000_000_000_000_000
	minBurst, maxBurst       = 1_000, 34_359_738_360
	defaultBurst             = 4_294_967_296
	minPeak, maxPeak         = 1_010, 1_010_000_000_000_000
	minMinBurst, maxMinBurst = 1_000, 100_000_000
)

// bandwidthWishes are the values of these annotations, as they are.
type bandwidthWishes struct{ ingress, egress limitWish }

type limitWish struct{ rate, burst, peak, minBurst string }

func bandwidthOf(annotations map[string]string) bandwidthWishes {
	return bandwidthWishes{
		ingress: limitWish{
			rate:  cmp.Or(annotations[annotationIngressRate], annotations[annotationIngressLimit]),
			burst: annotations[annotationIngressBurst], peak: annotations[annotationIngressPeak], minBurst: annotations[annotationIngressMinBurst],
		},
		egress: limitWish{
			rate:  cmp.Or(annotations[annotationEgressRate], annotations[annotationEgressLimit]),
			burst: annotations[annotationEgressBurst], peak: annotations[annotationEgressPeak], minBurst: annotations[annotationEgressMinBurst],
		},
	}
}

// render reads the limits, or tells what is wrong with them. A limit that can't be read is none: the pod does not start with it.
func (w bandwidthWishes) render() (*v1alpha1.Bandwidth, string) {
	ingress, problem := w.ingress.render(limitWish{
		rate: annotationIngressRate + " or " + annotationIngressLimit, burst: annotationIngressBurst, peak: annotationIngressPeak, minBurst: annotationIngressMinBurst,
	})
	if problem != "" {
		return nil, problem
	}
	egress, problem := w.egress.render(limitWish{
		rate: annotationEgressRate + " or " + annotationEgressLimit, burst: annotationEgressBurst, peak: annotationEgressPeak, minBurst: annotationEgressMinBurst,
	})
	if problem != "" {
		return nil, problem
	}
	if ingress == nil && egress == nil {
		return nil, ""
	}
	return &v1alpha1.Bandwidth{Ingress: ingress, Egress: egress}, ""
}

// render reads the limit of one direction; names are the annotations'.
func (w limitWish) render(names limitWish) (*v1alpha1.BandwidthLimit, string) {
	switch {
	case w.rate == "" && w.burst != "":
		return nil, fmt.Sprintf("annotation %s: a burst needs a rate: set %s too", names.burst, names.rate)
	case w.rate == "" && w.peak != "":
		return nil, fmt.Sprintf("annotation %s: a peak rate needs a rate: set %s too", names.peak, names.rate)
	case w.peak == "" && w.minBurst != "":
		return nil, fmt.Sprintf("annotation %s: a least burst needs a peak rate: set %s too", names.minBurst, names.peak)
	case w.rate == "":
		return nil, ""
	}
	out := v1alpha1.BandwidthLimit{BurstBits: defaultBurst}
	for _, v := range []struct {
		to          *int64
		name, text  string
		least, most int64
		like        string
	}{
		{&out.BitsPerSecond, names.rate, w.rate, minRate, maxRate, "10M, bits per second, from 1k to 1P"},
		{&out.BurstBits, names.burst, w.burst, minBurst, maxBurst, "1Mi, bits, from 1k to 34359738360"},
		{&out.PeakBitsPerSecond, names.peak, w.peak, minPeak, maxPeak, "20M, bits per second, from 1010 to 1.01P"},
		{&out.MinBurstBytes, names.minBurst, w.minBurst, minMinBurst, maxMinBurst, "1500, bytes, from 1k to 100M"},
	} {
		if v.text == "" {
			continue
		}
		var problem string
		if *v.to, problem = quantity(v.name, v.text, v.least, v.most, v.like); problem != "" {
			return nil, problem
		}
	}
	if out.PeakBitsPerSecond != 0 && out.PeakBitsPerSecond <= out.BitsPerSecond {
		return nil, fmt.Sprintf("annotation %s: got %q, which is not above the rate, %q: write a greater one, or leave it out", names.peak, w.peak, w.rate)
	}
	return &out, ""
}

func quantity(annotation, text string, least, most int64, like string) (int64, string) {
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Cmp(*resource.NewQuantity(least, resource.DecimalSI)) < 0 || q.Cmp(*resource.NewQuantity(most, resource.DecimalSI)) > 0 {
		return 0, fmt.Sprintf("annotation %s: got %q: write it like %s", annotation, text, like)
	}
	return q.Value(), ""
}
