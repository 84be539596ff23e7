package render

import (
	"cmp"
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Annotations on pods that limit their traffic. Those of qos.projectcalico.org count before those of kubernetes.io.
const (
	annotationIngressLimit = "kubernetes.io/ingress-bandwidth"
	annotationEgressLimit  = "kubernetes.io/egress-bandwidth"
	annotationIngressRate  = "qos.projectcalico.org/ingressBandwidth"
	annotationIngressBurst = "qos.projectcalico.org/ingressBurst"
	annotationEgressRate   = "qos.projectcalico.org/egressBandwidth"
	annotationEgressBurst  = "qos.projectcalico.org/egressBurst"
)

// Bounds of the annotations' values and what holds when no burst is set: those of users of Calico, bits per second and bits.
const (
	minRate, maxRate   = 1_000, 1_000_000_000_000_000
	minBurst, maxBurst = 1_000, 34_359_738_360
	defaultBurst       = 4_294_967_296
)

// bandwidthWishes are the values of these annotations, as they are.
type bandwidthWishes struct{ ingress, ingressBurst, egress, egressBurst string }

func bandwidthOf(annotations map[string]string) bandwidthWishes {
	return bandwidthWishes{
		ingress:      cmp.Or(annotations[annotationIngressRate], annotations[annotationIngressLimit]),
		ingressBurst: annotations[annotationIngressBurst],
		egress:       cmp.Or(annotations[annotationEgressRate], annotations[annotationEgressLimit]),
		egressBurst:  annotations[annotationEgressBurst],
	}
}

// render reads the limits, or tells what is wrong with them. A limit that can't be read is none: the pod does not start with it.
func (w bandwidthWishes) render() (*v1alpha1.Bandwidth, string) {
	ingress, problem := limitOf(annotationIngressRate+" or "+annotationIngressLimit, w.ingress, annotationIngressBurst, w.ingressBurst)
	if problem != "" {
		return nil, problem
	}
	egress, problem := limitOf(annotationEgressRate+" or "+annotationEgressLimit, w.egress, annotationEgressBurst, w.egressBurst)
	if problem != "" {
		return nil, problem
	}
	if ingress == nil && egress == nil {
		return nil, ""
	}
	return &v1alpha1.Bandwidth{Ingress: ingress, Egress: egress}, ""
}

func limitOf(annotation, rate, burstAnnotation, burst string) (*v1alpha1.BandwidthLimit, string) {
	if rate == "" && burst != "" {
		return nil, fmt.Sprintf("annotation %s: a burst needs a rate: set %s too", burstAnnotation, annotation)
	}
	if rate == "" {
		return nil, ""
	}
	var out v1alpha1.BandwidthLimit
	var problem string
	if out.BitsPerSecond, problem = quantity(annotation, rate, minRate, maxRate, "10M, bits per second, from 1k to 1P"); problem != "" {
		return nil, problem
	}
	out.BurstBits = defaultBurst
	if burst != "" {
		if out.BurstBits, problem = quantity(burstAnnotation, burst, minBurst, maxBurst, "1Mi, bits, from 1k to 34359738360"); problem != "" {
			return nil, problem
		}
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
