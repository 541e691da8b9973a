#!/usr/bin/env python3
"""Makes digits.txt from the copy of the data that comes with scikit-learn.

    pip install scikit-learn
    python3 examples/data/make_digits.py > examples/data/digits.txt
"""

from sklearn.datasets import load_digits

HEADER = """\
# Optical recognition of handwritten digits: {count} images of 8x8 pixels.
#
# Origin: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
# https://doi.org/10.24432/C50P49, licensed CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). This is its test
# set (optdigits.tes, digits of 13 people) in the original order, taken from scikit-learn's copy. Changed: only the
# notation, by make_digits.py beside this file.
#
# Format: lines that begin with # and empty lines are skipped. First "images N", then N times the digit on a line of its
# own and eight lines of eight pixels: how many of the 16 dots that a pixel stands for were black, as one of
# . (0) 1 2 3 4 5 6 7 8 9 a b c d e f g (16).

images {count}
"""
PIXEL = ".123456789abcdefg"


def main():
    digits = load_digits()
    print(HEADER.format(count=len(digits.target)))
    for image, digit in zip(digits.images, digits.target):
        print(digit)
        for row in image:
            print("".join(PIXEL[int(pixel)] for pixel in row))


if __name__ == "__main__":
    main()
