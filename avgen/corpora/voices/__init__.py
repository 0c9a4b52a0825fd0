"""Speech of people who do not exist: sentences in, clips of sound with times of words out."""
