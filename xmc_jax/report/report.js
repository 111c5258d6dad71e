// Moving a slider shows the grid of that step.
for (const steps of document.querySelectorAll('.steps')) {
  const slider = steps.querySelector('input'), images = [...steps.querySelectorAll('img')];
  slider?.addEventListener('input', () => {
    images.forEach((image, i) => { image.hidden = i !== Number(slider.value); });
    const {step} = images[slider.value].dataset;
    steps.querySelector('output').textContent = step;
    slider.setAttribute('aria-valuetext', `step ${step}`);
  });
}
