"""Physics of the measurement: decay, radionuclides, SUV. Plain numbers in, plain numbers out."""
